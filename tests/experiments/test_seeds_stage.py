"""The seeds stage: from folders and repositories of several languages to seeds, with counts of what was left out."""

import json
import subprocess

import pytest

from demiurgic_jax.curation.seeds import read_seeds
from experiments.run import main

PYTHON = "def area(width, height):\n    if width < 0:\n        raise ValueError(width)\n    return width * height\n\n\n"
GO = (
    "package box\n\n// Area multiplies.\nfunc Area(w, h int) int {\n"
    "\tif w < 0 {\n\t\tpanic(w)\n\t}\n\treturn w * h\n}\n"
)
PROBLEM = {
    "task_id": "Own/1",
    "prompt": 'def running_totals(values):\n    """Sums of the values up to each one of them, in a list as long as '
    'values."""\n',
    "canonical_solution": "    total, sums = 0, []\n    for value in values:\n        total += value\n"
    "        sums.append(total)\n"
    "    return sums\n",
}  # fmt: skip
COPY = "def f(xs):\n    s, out = 0, []\n    for x in xs:\n        s += x\n        out.append(s)\n    return out\n"
KEY = "ghp_" + "a1B2c3D4" * 4 + "e5F6"


@pytest.fixture
def code(tmp_path):
    """A folder under MIT with a GPL part, a copy of a benchmark's problem, a near-duplicate and a key."""
    files = {
        "code/LICENSE": "Released under the MIT license\n",
        "code/area.py": PYTHON + "# by ada@engines.org\n" + "\n".join(f"A_{n} = {n}" for n in range(300)) + "\n",
        "code/again.py": PYTHON + "# by ada@engines.org\n" + "\n".join(f"A_{n} = {n}" for n in range(301)) + "\n",
        "code/box.go": GO,
        "code/copy.py": COPY,
        "code/key.py": f'def connect(client):\n    token = "{KEY}"\n    client.login(token)\n    return client\n',
        "code/gpl/part.py": "# SPDX-License-Identifier: GPL-3.0-only\n" + PYTHON.replace("area", "size"),
        "benchmarks/own.jsonl": json.dumps(PROBLEM) + "\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(code, *arguments, sources="code", workdir="run"):
    return main(
        ["--config=quickstart", "--stages=seeds", f"--workdir={code / workdir}",
         f"--config.seeds.sources={code / sources}",
         "--config.seeds.languages=('python','go')", f"--config.seeds.benchmarks={code / 'benchmarks'}",
         "--config.seeds.near_duplicates.remove=True", *arguments]
    )  # fmt: skip


def manifest(code, workdir="run"):
    return json.loads((code / workdir / "seeds" / "manifest.json").read_text())


def test_what_must_not_be_sent_is_left_out_and_counted(code, capsys):
    assert run(code) == 0
    out = manifest(code)["outputs"]
    assert out["languages"].keys() == {"python", "go"}
    assert out["licences"] == {"MIT": 5}
    assert out["files_left_out"] == {"licence GPL-3.0-only": 1}
    assert out["seeds_left_out"] == {"benchmark problem": 2, "near-duplicate": 1}
    assert out["redacted"] == {"EMAIL": 1, "GITHUB_TOKEN": 2}
    written = (code / "run" / "seeds" / "seeds.jsonl").read_text()
    assert KEY not in written
    assert "ada@" not in written
    seeds = read_seeds(code / "run" / "seeds" / "seeds.jsonl")
    area = next(seed for seed in seeds if seed.name == "Area")
    assert (area.docstring, area.licence, area.path) == ("Area multiplies.", "MIT", "box.go")
    assert area.repository == str(code / "code")
    before = manifest(code)
    assert run(code) == 0
    assert "already done" in capsys.readouterr().err
    (code / "code" / "box.go").write_text(GO.replace("w * h", "h * w"))
    assert run(code) == 0
    assert manifest(code)["outputs"]["sha256"] != before["outputs"]["sha256"]


def test_a_repository_at_a_commit_gives_the_seeds_of_its_folder(code):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", code / "code", *arguments], check=True)
    assert run(code) == 0
    repository = f"--config.seeds.sources=({{'git': '{code / 'code'}', 'commit': 'HEAD'}},)"
    assert run(code, repository, workdir="other") == 0
    here, there = (manifest(code, name)["outputs"] for name in ("run", "other"))
    unlike = ("sha256", "files_left_out")  # a repository's own folder is hidden, and is none of its files
    assert {name: here[name] for name in here if name not in unlike} == {
        name: there[name] for name in there if name not in unlike
    }
    assert there["files_left_out"] == {"licence GPL-3.0-only": 1}


@pytest.mark.parametrize(
    ("arguments", "sources", "said"),
    [
        ([], "benchmarks", "no python or go code is there"),
        ([], "nowhere", "nowhere does not exist"),
        (["--config.seeds.languages=cobol"], "code", "language 'cobol' is unknown"),
        (["--config.seeds.licences.policy=strict"], "code", "licence policy 'strict' is unknown"),
        (["--config.seeds.licences.deny=MIT"], "code", "config.seeds.licences.allow"),
        (["--config.seeds.redact=phones"], "code", "'phones' is nothing that can be redacted"),
        (["--config.seeds.benchmarks=nowhere"], "code", "benchmark folder nowhere does not exist"),
        (["--config.seeds.sources=({'fodler': 'x'},)"], "code", "fodler"),
        (["--config.seeds.min_lines=500", "--config.seeds.max_lines=600"], "code", "no seed is left of 5 files"),
    ],
)
def test_mistakes_are_said_in_one_sentence(code, capsys, arguments, sources, said):
    assert run(code, *arguments, sources=sources) == 2
    assert said in capsys.readouterr().err
