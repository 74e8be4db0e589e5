"""`python -m tools.plan` as a user types it."""

import json

import pytest

from tools.plan import main, token_count

SEVEN = [
    "--config=quickstart_scratch",
    "--config.init.size=7b",
    "--config.tokenizer.vocab_size=32000",
    "--config.train.context=4096",
    "--config.train.compute_dtype=bfloat16",
    "--config.train.remat=full",
    "--config.train.batch_size=256",
    "--method=analytic",
]


def test_one_plan_says_memory_work_time_and_dollars(capsys):
    assert main([*SEVEN, "--hardware=v5p-32", "--tokens=10B"]) == 0
    text = capsys.readouterr().out
    for part in (
        "parameters",
        "optimizer",
        "activations",
        "peak",
        "all-gather",
        "ESTIMATE",
        "MFU",
        "on-demand",
        "days",
    ):
        assert part in text
    assert "10 B tokens" in text


def test_json_has_the_same_figures(capsys):
    assert main([*SEVEN, "--hardware=8xH200", "--json"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)
    assert plan["hardware"]["num_chips"] == 8
    assert plan["parameters"] > 6.7e9
    figures = plan["figures"]
    parts = ("parameter_bytes", "optimizer_bytes", "batch_bytes", "temporary_bytes")
    assert figures["peak_bytes"] == pytest.approx(sum(figures[part] for part in parts))
    assert plan["estimate"]["tokens"] == 300 * 256 * 4096


def test_a_comparison_ends_with_a_recommendation_and_a_picture(capsys, tmp_path):
    picture = tmp_path / "memory.png"
    assert main([*SEVEN, "--compare=v5e-64,v5p-32,v6e-64", f"--plot={picture}"]) == 0
    text = capsys.readouterr().out
    assert all(f"| {name}" in text for name in ("v5e-64", "v5p-32", "v6e-64"))
    assert "Take v" in text
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hardware=v9-64"], "hardware 'v9-64' is unknown"),
        ([], "give --hardware"),
        (["--hardware=v5p-32", "--compile"], "'--compile' is unknown"),
        (["--hardware=v5p-32", "--config.train.bach_size=3"], "did you mean config.train.batch_size"),
        (["--hardware=v5p-32", "--config.init.kind=checkpoint"], "--config.init.kind=random"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(capsys, arguments, message):
    assert main([*SEVEN, *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_counts_of_tokens_are_written_as_people_write_them():
    assert [token_count(text) for text in ("20B", "500M", "1.5T", "1_000", "2e9")] == [20e9, 500e6, 1.5e12, 1000, 2e9]


def test_the_teacher_of_a_phase_is_planned_with_that_phase(capsys):
    phases = [
        "--config=quickstart",
        "--config.train.batch_size=4",
        "--config.phases=({'name': 'stored', 'steps': 10}, {'name': 'beside', 'steps': 10, 'soft_targets': 0, "
        "'teacher': {'online': True}})",
        "--hardware=v5e-4",
        "--method=analytic",
    ]
    assert main(phases) == 0
    said = capsys.readouterr()
    assert "plan it with --phase=beside" in said.err
    assert "the teacher in the step" not in said.out
    assert main([*phases, "--phase=beside"]) == 0
    assert "the teacher in the step" in capsys.readouterr().out
    assert main([*phases, "--phase=other"]) == 2
    assert "no phase called 'other' (stored, beside)" in capsys.readouterr().err
