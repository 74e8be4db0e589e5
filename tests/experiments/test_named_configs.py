"""The experiments from 1B to 70B: on every hardware that their docstrings name they load, and their step fits."""

import re

import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.planning.estimate import plan_step
from demiurgic_jax.planning.hardware import find_hardware
from demiurgic_jax.training.config import TrainConfig
from experiments.configs._layouts import LAYOUTS, layout
from experiments.configuration import as_dataclass, config_docstring, config_names, load_config
from experiments.run import main
from experiments.training_phases import phase_configs
from tools.plan import planned_model

NAMED = [name for name in config_names() if not name.startswith("quickstart")]
ROW = re.compile(r"^\| (\S+) +\|", re.MULTILINE)


def hardware_of(name: str) -> list[str]:
    """The first column of the docstring's table."""
    return [word for word in ROW.findall(config_docstring(name)) if word != "hardware" and not word.startswith("-")]


@pytest.mark.parametrize(("name", "hardware"), [(name, each) for name in NAMED for each in hardware_of(name)])
def test_the_step_fits_on_each_hardware_that_the_docstring_names(name, hardware):
    config = load_config(name, [("hardware", hardware)])
    train = as_dataclass(TrainConfig, config.train, "train")
    plan = plan_step(train, planned_model(config), find_hardware(hardware), "analytic")
    assert plan.fits
    assert train.compute_dtype == "bfloat16"


def test_every_named_config_says_its_command_and_that_it_is_planned():
    assert set(NAMED) == {"1b_distill", "7b_distill", "13b_distill", "34b_distill", "70b_distill", "7b_scratch"}
    for name in NAMED:
        assert f"--config={name}" in config_docstring(name)
        assert "planned, not run" in config_docstring(name)
        assert len(hardware_of(name)) >= 2


@pytest.mark.parametrize("hardware", ["8xA100-80GB", "24xH100", "v5e-64", "v5p-32", "2xv5p-128", "v5p-4096"])
@pytest.mark.parametrize("context", [4096, 8192, 16384])
def test_a_step_has_the_same_tokens_on_every_hardware(hardware, context):
    laid = layout("7b", hardware, context, 1 << 22)
    assert laid.batch_size * context == pytest.approx(1 << 22, rel=0.05)
    chips = find_hardware(hardware)
    groups = laid.mesh["data"] * laid.mesh["fsdp"]
    assert groups * laid.mesh["context"] == chips.num_chips
    assert laid.mesh["data"] % chips.num_slices == 0
    assert laid.batch_size % (groups * laid.grad_accum_steps) == 0


def test_a_layout_is_known_for_every_size_and_chip_alike():
    assert {frozenset(chips) for chips in LAYOUTS.values()} == {frozenset(LAYOUTS["7b"])}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([("hardware", "v9-64")], "known are v4-N, v5p-N"),
        ([("hardware", "v4-64")], "no layout is known for 7b on v4: name hardware of A100-80GB"),
        ([("context", "5000")], "config.context=5000 is none of 4096, 8192, 16384"),
        ([("context", "long")], "config.context=long is no int"),
    ],
)
def test_hardware_or_context_that_no_layout_knows_is_refused_by_name(overrides, said):
    with pytest.raises(UserError) as refusal:
        load_config("7b_distill", overrides)
    assert said in str(refusal.value)


def test_what_the_command_line_says_goes_over_what_the_hardware_decides():
    config = load_config("7b_distill", [("train.remat", "attention"), ("hardware", "v5p-32"), ("train.mesh.fsdp", "8")])
    assert (config.hardware, config.train.remat, config.train.mesh.fsdp) == ("v5p-32", "attention", 8)


def test_a_laptop_is_told_that_code_is_missing(tmp_path, capsys):
    assert main(["--config=7b_distill", "--stages=seeds", f"--workdir={tmp_path}/run"]) == 2
    assert "source folder code does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in NAMED if name.endswith("_distill")])
def test_an_open_teacher_teaches_in_two_phases(name):
    """Stored samples of its distribution first, then itself in the step and the student's own texts."""
    stored, online = phase_configs(load_config(name, [("open_teacher", "weights/some-coder")]))
    plain = load_config(name)
    assert stored.train.steps + online.train.steps == plain.train.steps
    assert (stored.train.soft_targets, stored.train.teacher.online, stored.train.on_policy.fraction) == (40, False, 0)
    assert (online.train.soft_targets, online.train.teacher.weights, online.train.on_policy.fraction) == (
        0,
        "int8",
        0.25,
    )
    assert (
        phase_configs(load_config(name, [("open_teacher", "w"), ("on_policy", "0")]))[1].train.on_policy.fraction == 0
    )
    stored.train.loss.require_linear()
    assert "--config.open_teacher=FOLDER" in config_docstring(name)
