"""Benchmark problems and their renamed, reformatted copies are found; other code is not taken for them."""

import ast
import gzip
import json
import random
import re
import sysconfig
import time
from itertools import islice
from pathlib import Path

import pytest

from demiurgic_jax.curation.decontamination import Benchmarks
from demiurgic_jax.curation.seeds import cut_seeds
from demiurgic_jax.curation.sources import read_folder, standard_library
from demiurgic_jax.errors import UserError

PROBLEM = {
    "task_id": "Own/1",
    "prompt": 'def longest_run(values):\n    """Length of the longest run of equal neighbours in values, 0 for none.\n'
    "    >>> longest_run([1, 1, 2])\n    2\n    \"\"\"\n",
    "canonical_solution": "    best, run = 0, 0\n    for i, value in enumerate(values):\n        if i and value =="
                          " values[i - 1]:\n"
    "            run += 1\n        else:\n            run = 1\n        best = max(best, run)\n    return best\n",
    "test": "def check(candidate):\n    assert candidate([1, 1, 2]) == 2\n    assert candidate([]) == 0\n    assert"
            " candidate([5, 5, 5]) == 3\n",
}  # fmt: skip
COPIES = {
    "as it is": PROBLEM["prompt"] + PROBLEM["canonical_solution"],
    "its description in prose": "Task: return the length of the longest run of equal neighbours in values, 0 for none.",
    "its tests": PROBLEM["test"],
    "renamed": "def f(items):\n    top, n = 0, 0\n    for k, item in enumerate(items):\n        if k and item =="
               " items[k - 1]:\n"
    "            n += 1\n        else:\n            n = 1\n        top = max(top, n)\n    return top\n",
    "renamed and reformatted": "class C:\n  def f(self, items: list) -> int:\n    # the longest\n    (top, n) = (0,"
                               " 0)\n"
    "    for (k, item) in enumerate(\n        items,\n    ):\n      if (k and item == items[k - 1]): n += 1\n"
    "      else: n = 1\n      top = max(top, n)\n    return (top)\n",
}  # fmt: skip


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_a_problem_are_found_by_name_and_part(copy):
    found = Benchmarks({"Own/1": PROBLEM}).match(COPIES[copy], "python")
    assert found is not None
    assert re.fullmatch(r"Own/1 \((description|solution|tests)\)", found)


def test_what_only_looks_alike_is_no_copy():
    benchmarks = Benchmarks({"Own/1": PROBLEM})
    other = "def f(items):\n    n = 0\n    for k, item in enumerate(items):\n        if item:\n            n += 1\n"
    assert benchmarks.match(other, "python") is None
    assert benchmarks.match("", "python") is None


def test_bad_benchmarks_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        Benchmarks.read([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="holds no problems"):
        Benchmarks.read([str(tmp_path)])
    (tmp_path / "own.jsonl").write_text(json.dumps(PROBLEM) + '\n{"id": 3}\n')
    with pytest.raises(UserError, match=r"own\.jsonl line 2 is no benchmark problem"):
        Benchmarks.read([str(tmp_path)])
    (tmp_path / "own.jsonl").write_text(json.dumps(PROBLEM) + "\n")
    assert Benchmarks.read([str(tmp_path)]).match(COPIES["renamed"], "python") == "own:Own/1 (solution)"


def renamed(code: str, rng: random.Random, *, described: bool) -> str:
    """`code` with every parameter and variable renamed, as ast.unparse formats it, with or without its docstrings."""
    tree = ast.parse(code)
    names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    new = {name: f"{rng.choice(['item', 'data', 'v'])}_{number}" for number, name in enumerate(sorted(names))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = new.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = new[node.arg]
        elif isinstance(node, ast.FunctionDef) and not described and ast.get_docstring(node) and len(node.body) > 1:
            node.body = node.body[1:]
    return ast.unparse(tree) + "\n"


def planted(shared_data, count: int) -> list[str]:
    """Of three benchmarks: a half as they are, a third renamed and reformatted, a sixth without docstring too."""
    with gzip.open(shared_data / "evalplus" / "HumanEvalPlus.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    code = [row["prompt"] + row["canonical_solution"] for row in rows]
    for name in ("humanevalpack/python.jsonl", "mbpp/mbpp.jsonl"):
        for row in map(json.loads, (shared_data / name).open()):
            described = (
                f'"""{row["text"]}"""\n{row["code"]}' if "code" in row else row["prompt"] + row["canonical_solution"]
            )
            code.append(described)
    rng = random.Random(7)
    chosen = rng.sample(code, count)
    for number, text in enumerate(chosen):
        if number % 6 in (1, 2):
            chosen[number] = renamed(text, rng, described=True)
        elif number % 6 == 3:
            chosen[number] = renamed(text, rng, described=False)
    return chosen


@pytest.fixture(scope="module")
def benchmarks(shared_data):
    return Benchmarks.read([str(shared_data / name) for name in ("evalplus", "mbpp", "humanevalpack")])


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.full_size)])
def test_planted_problems_are_found_among_real_seeds(shared_data, benchmarks, count):
    folders = [standard_library()[0], Path(sysconfig.get_path("purelib"))]
    files = (file for folder in folders for file in read_folder(folder, max_bytes=200_000))
    seeds = list(islice(cut_seeds(files), count))
    problems = planted(shared_data, 100)
    started = time.perf_counter()
    false = [found for seed in seeds if (found := benchmarks.match(seed.code, seed.language))]
    speed = sum(len(seed.code) for seed in seeds) / 1e6 / (time.perf_counter() - started)
    found = sum(benchmarks.match(text, "python") is not None for text in problems)
    print(
        f"{found} of {len(problems)} planted found, {len(false)} of {len(seeds)} others taken for one, {speed:.2f} MB/s"
    )
    assert len(seeds) == count or count == 10_000
    assert found >= 98
    assert len(false) <= 5 * count / 10_000 + 1, false


@pytest.mark.parametrize(("language", "name"), [("javascript", "js"), ("go", "go"), ("rust", "rust"), ("java", "java"),
                                                ("cpp", "cpp")])  # fmt: skip
def test_solutions_in_other_languages_are_found_without_their_description(shared_data, benchmarks, language, name):
    rows = [json.loads(line) for line in (shared_data / "humanevalpack" / f"{name}.jsonl").open()]
    found = [benchmarks.match(row["declaration"] + row["canonical_solution"], language) for row in rows]
    assert sum(each is not None for each in found) >= 0.98 * len(rows)
