"""The report: figures by part, failures, comparison, contamination; readable without anything from outside."""

import json
from dataclasses import replace

import numpy as np
import pytest

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.shards import write_shards
from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation.contamination import contamination
from demiurgic_jax.evaluation.report import Evaluation, write_report
from demiurgic_jax.evaluation.results import Result
from demiurgic_jax.evaluation.scores import benchmark_scores, compare_results, failures


def result(number, passed, *, language="python", skill="fix", sample=0, verdict=None, **more):
    return Result(
        **{
            "problem": f"P/{number}",
            "sample": sample,
            "language": language,
            "skill": skill,
            "bug_type": ("operator misuse", "missing logic")[number % 2],
            "prompt": "def f(x): # <b>|",
            "answer": "````\n</pre><script>alert(1)</script>",
            "explanation": "",
            "verdict": verdict or ("passed" if passed else "failed"),
            "reason": "AssertionError: a | b",
            "seconds": 1.0,
            "run_seconds": 0.1,
            "completion_tokens": 5,
            **more,
        }
    )


def results_of(outcomes, **more):
    return [result(number, passed, **more) for number, passed in enumerate(outcomes)]


def test_scores_are_told_by_language_skill_and_bug_type():
    rows = [*results_of([True, False, True, False]), result(9, True, language="go", skill="explain")]
    scores = benchmark_scores("b", rows)
    assert scores.whole.pass_at[1].value == 3 / 5
    assert {name: each.pass_at[1].value for name, each in scores.parts["language"].items()} == {"python": 0.5, "go": 1}
    assert scores.parts["bug_type"]["operator misuse"].pass_at[1].value == 1.0
    assert scores.parts["skill"]["explain"].problems == 1


def test_a_language_that_was_not_run_counts_nowhere():
    rows = [result(0, True), *(result(n, False, language="go", verdict="not run", reason="no go") for n in (1, 2))]
    scores = benchmark_scores("b", rows)
    assert (scores.whole.problems, scores.whole.pass_at[1].value) == (1, 1.0)
    assert "go" not in scores.parts["language"]
    assert scores.not_run == {"go": "no go"}


def test_pass_at_k_is_told_for_as_many_samples_as_there_are():
    rows = [result(n, n == s, sample=s) for n in range(4) for s in range(5)]
    found = {k: each.value for k, each in benchmark_scores("b", rows).whole.pass_at.items()}
    assert found == pytest.approx({1: 0.2, 5: 1.0})


def test_models_are_compared_on_the_problems_that_both_have_run():
    mine, theirs = results_of([True, True, True, False]), results_of([True, False, False])
    found = compare_results("b", mine, theirs)
    assert (found.problems, found.only_a, found.only_b, found.p_value) == (3, 2, 0, 0.5)
    assert found.difference.value == pytest.approx(2 / 3)
    with pytest.raises(UserError, match="share no problem"):
        compare_results("b", mine, [])


def test_failures_are_taken_from_all_over():
    assert [each.problem for each in failures(results_of([False] * 100), 4)] == ["P/0", "P/25", "P/50", "P/75"]


@pytest.fixture
def pages(tmp_path):
    mine, theirs = results_of([True, False, False, True]), results_of([False, False, False, True])
    evaluation = Evaluation(
        settings={"model": "m <1>", "temperature": 0.0, "benchmarks": {"b": {"b.jsonl": "abc"}}},
        scores=[benchmark_scores("b", mine)],
        failed={"b": failures(mine, 5)},
        compared_with="other",
        compared={"b": compare_results("b", mine, theirs)},
    )
    return {path.name: path.read_text() for path in write_report(tmp_path, evaluation)}


def test_the_pages_show_scores_comparison_failures_and_settings(pages):
    for page in (pages["report.md"], pages["report.html"]):
        for shown in ("50.0 %", "Compared with other", "McNemar", "P/1", "by bug type", "b b.jsonl", "abc"):
            assert shown in page
    assert json.loads(pages["report.json"])["benchmarks"]["b"]["whole"]["pass_at"]["1"]["value"] == 0.5


def test_what_a_model_wrote_cannot_break_the_pages(pages):
    assert "<script>" not in pages["report.html"]
    assert "m &lt;1&gt;" in pages["report.html"]
    assert "`````" in pages["report.md"]
    assert "a \\| b" in pages["report.md"]


def test_the_html_needs_nothing_from_outside(pages):
    html = pages["report.html"]
    assert "src=" in html
    assert "http://" not in html
    assert "https://" not in html


def test_copies_of_problems_in_the_shards_are_found(sums, tmp_path):
    solution = (
        "def running_total(values):\n    total = 0\n    out = []\n    for value in values:\n        total += value\n"
        "        out.append(total * 2 + len(out))\n    return [each for each in out if each % 3]\n"
    )
    problem = replace(sums.problems[0], id="Sums/copied", canonical=solution)
    benchmark = replace(sums, problems=(*sums.problems, problem))
    texts = ["print('hello')\n" * 20, "import os\n\n" + solution.replace("total", "t"), "def other():\n    return 1\n"]
    tokenizer = train_sentencepiece(texts * 3, 380)
    documents = [
        Document(str(number), "python", "code", np.array(tokenizer.encode(text), np.uint16))
        for number, text in enumerate(texts)
    ]
    shards = write_shards(tmp_path / "shards", documents, tokenizer=tokenizer, num_shards=1, provenance={})
    found = contamination([benchmark], shards, tokenizer, where="shards")
    assert (found.documents, found.problems) == (3, 5)
    assert [*found.found] == ["Sums/copied"]
    assert found.found["Sums/copied"][0].endswith("(solution)")
