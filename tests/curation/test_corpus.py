"""The corpus pipeline end to end on a small world: what stays, what goes and why, whoever ran it and how often it was
killed."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("datatrove")

from corpus_sources import KEY, edited, git_repository, library, made, rows_of, texts_in, write_world

from demiurgic_jax.curation.corpus.card import write_card
from demiurgic_jax.curation.corpus.execution import Execution, run_stage
from demiurgic_jax.curation.corpus.funnel import read_funnel
from demiurgic_jax.curation.corpus.near import DropNear, FindNear, SignNear, find_pairs
from demiurgic_jax.curation.corpus.ordering import import_order, is_heldout
from demiurgic_jax.curation.corpus.pipeline import CorpusConfig, corpus_stages
from demiurgic_jax.curation.near_duplicates import MinHashConfig
from demiurgic_jax.curation.sources import CodeSource
from demiurgic_jax.curation.tokens import ngram_hashes, token_hashes
from demiurgic_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    return write_world(root / "repositories")


@pytest.fixture(scope="module")
def config(world):
    return CorpusConfig([world], parts=3, heldout=0.0)


@pytest.fixture(scope="module")
def corpus(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return made(config, folder), folder


def test_each_kind_of_rubbish_is_left_out_and_counted_by_its_reason(corpus):
    texts, folder = corpus
    funnel = read_funnel(folder)
    reasons = {(block, reason): amount.documents for block, reason, amount in funnel.reasons()}
    assert reasons.pop(("reading", "empty"), 0) <= 4
    wrong = reasons.pop(("quality", "comments alone"), 0)
    assert wrong <= 3
    assert reasons == {
        ("reading", "binary"): 1,
        ("reading", "not UTF-8"): 1,
        ("reading", "too large"): 1,
        ("reading", "licence unknown"): 1,
        ("quality", "longest line"): 1,
        ("quality", "no language"): 1,
        ("exact duplicates", "exact duplicate"): 1,
        ("near-duplicates", "near-duplicate"): 1,
        ("syntax", "does not parse"): 1,
    }
    assert funnel.beside == {"link": 1, "folders: link": 1}
    assert "two/script" in texts
    assert not any(name.startswith("bare/") or name.endswith(".ts") for name in texts)


def test_every_file_that_came_in_is_either_kept_or_counted(corpus):
    texts, folder = corpus
    funnel = read_funnel(folder)
    lost = sum(amount.documents for _, _, amount in funnel.reasons())
    assert funnel.entered("reading").documents == len(texts) + lost
    assert funnel.as_json()["kept"]["python"]["documents"] == len(texts)


def test_secrets_are_placeholders_and_the_rest_is_as_it_was(corpus):
    texts, folder = corpus
    assert KEY not in texts["one/keys.py"]
    assert "REDACTED_GITHUB_TOKEN" in texts["one/keys.py"]
    assert read_funnel(folder).placeholders["GITHUB_TOKEN"] == 1
    real = library()
    unchanged = [
        name for name, text in texts.items() if name.partition("/")[2] in real and text == real[name.partition("/")[2]]
    ]
    assert len(unchanged) > 0.9 * len(real) - 3


def test_samples_of_the_dropped_and_a_card_are_there_for_eyes(corpus):
    _, folder = corpus
    samples = (folder / "dropped" / "syntax").glob("*.jsonl")
    assert any("def broken(:" in path.read_text() for path in samples)
    write_card("small world", read_funnel(folder), folder)
    card = (folder / "DATA_CARD.md").read_text()
    assert "| near-duplicates | near-duplicate | 1 |" in card
    assert "MIT" in card
    page = (folder / "DATA_CARD.html").read_text()
    assert "image/svg+xml" in page
    assert "def broken(:" in page


def test_the_stages_leave_nothing_that_only_they_needed(corpus):
    _, folder = corpus
    assert {path.name for path in folder.iterdir()} >= {"documents", "dropped", "logs"}
    assert not {"read", "signed", "pairs", "signatures"} & {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_parts_and_processes_change_nothing_but_where_documents_lie(config, corpus, tmp_path, parts):
    texts, _ = corpus
    assert made(replace(config, parts=parts), tmp_path, Execution(workers=2)) == texts


def test_a_run_that_is_killed_in_each_stage_ends_with_the_same_documents(config, corpus, tmp_path):
    texts, _ = corpus
    program = (
        "import sys\n"
        "sys.path.insert(0, sys.argv[3])\n"
        "from corpus_sources import *\n"
        "from demiurgic_jax.curation.corpus.pipeline import CorpusConfig\n"
        "made(CorpusConfig([CodeSource(folders=sys.argv[1])], parts=3, heldout=0.0), Path(sys.argv[2]))\n"
    )
    words = [sys.executable, "-c", program, config.sources[0].folders, str(tmp_path), str(Path(__file__).parent)]
    killed = 0
    for stage in corpus_stages(config, tmp_path):
        process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
        marks = tmp_path / "logs" / stage.name / "completions"
        while process.poll() is None and not (marks.is_dir() and any(marks.iterdir())):
            time.sleep(0.005)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
    assert killed >= 4
    assert made(config, tmp_path) == texts


def test_a_disk_that_is_full_half_way_is_named_and_the_run_goes_on_when_there_is_room(config, corpus, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a disk of one's own needs a mount, which needs root")
    texts, _ = corpus
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=300k tmpfs {disk} 2>/dev/null"):
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(UserError, match=r"the disk of .* is full: free some space and run again"):
            made(config, disk / "corpus")
        assert os.system(f"mount -o remount,size=60m {disk}") == 0
        assert made(config, disk / "corpus") == texts
    finally:
        os.system(f"umount -l {disk}")


def test_a_line_of_a_gigabyte_is_never_held_in_memory(tmp_path):
    """A child with 600 MB of memory reads the rows around it."""
    rows = tmp_path / "rows.jsonl"
    rows_of({"a.py": "def a():\n    return 1\n"}, rows)
    with rows.open("r+b") as file:
        first = file.read()
        file.truncate((1 << 30) + len(first))
        file.seek((1 << 30) + len(first))
        file.write(b"\n" + first)
    program = (
        "import resource, sys\n"
        "from demiurgic_jax.curation.sources import *\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (600 << 20, 600 << 20))\n"
        "found = list(screened(CodeSource(rows=sys.argv[1]), languages=('python',)))\n"
        "print([getattr(each, 'reason', 'kept') for each in found])\n"
    )
    said = subprocess.run([sys.executable, "-c", program, str(rows)], cwd=ROOT, capture_output=True, text=True)
    assert said.stdout.strip() == "['kept', 'too large', 'kept']", said.stderr
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_repositories_rows_and_folders_give_the_same_texts(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    files = library(("json",))
    rows_of(files, tmp_path / f"rows{suffix}")
    from_rows = made(CorpusConfig([CodeSource(rows=str(tmp_path / f"rows{suffix}"))], parts=2), tmp_path / "a")
    tree = tmp_path / "tree"
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    commit = git_repository(tree)
    source = CodeSource(git=str(tree), commit=commit, licence="MIT")
    from_git = made(CorpusConfig([source], parts=2), tmp_path / "b")
    assert sorted(from_rows.values()) == sorted(from_git.values())
    assert len(from_rows) >= 4


def test_planted_near_duplicates_are_found_at_the_rate_that_the_bands_predict(tmp_path):
    """1,000 pieces of real code, each with a copy in which 1 to 20 % of the words are others."""
    from datatrove.data import Document

    rng = random.Random(7)
    folder = Path(os.__file__).parent
    lines = [line for path in sorted(folder.glob("*.py")) for line in path.read_text("utf-8", "replace").split("\n")]
    texts = ["\n".join(lines[start : start + 60]) for start in range(0, len(lines), 60)]
    texts = [text for text in dict.fromkeys(texts) if len(token_hashes(text)) > 200][:1000]
    assert len(texts) == 1000
    copies = [edited(text, 0.01 + 0.19 * number / 999, rng) for number, text in enumerate(texts)]
    config = MinHashConfig()
    predicted = sum(config.probability(jaccard(*pair)) for pair in zip(texts, copies, strict=True))

    def documents(part):
        return [
            Document(text, f"{number:016x}", metadata={"language": "python", "bytes": len(text)})
            for number, text in enumerate(part)
        ]

    signatures, pairs, clusters = tmp_path / "signatures", tmp_path / "pairs", tmp_path / "clusters"
    both = documents([*texts, *copies])
    stages = [
        ([both, SignNear(signatures, config)], 1),
        ([find_pairs(signatures, pairs, config)], config.bands),
        ([FindNear(signatures, pairs, clusters)], 1),
    ]
    for number, (blocks, tasks) in enumerate(stages):
        logs = tmp_path / "logs" / str(number)
        run_stage(str(number), blocks, tasks, logs, Execution(workers=1), lambda *told: None, 1)
    kept = {int(each.id, 16) for each in DropNear(clusters, tmp_path / "dropped").run(both)}
    found = sum(not {number, number + 1000} <= kept for number in range(1000))
    print(f"{found} of 1,000 found, {predicted:.0f} predicted")
    assert abs(found - predicted) <= 30
    assert sum(number not in kept and number + 1000 not in kept for number in range(1000)) <= 20  # alike by themselves


def jaccard(one, other):
    a, b = (set(ngram_hashes(token_hashes(text), 5).tolist()) for text in (one, other))
    return len(a & b) / len(a | b)


def test_files_of_a_repository_come_after_what_they_import():
    files = {
        "app/main.py": "from app.models import User\nimport os\n",
        "app/__init__.py": "",
        "app/models.py": "from .base import Base\n",
        "app/base.py": "import json\n",
    }
    paths = sorted(files)
    order = [paths[number] for number in import_order(paths, [files[path] for path in paths], "python")]
    assert order.index("app/base.py") < order.index("app/models.py") < order.index("app/main.py")
    script = {"src/a.ts": "import {b} from './lib/b.js';\n", "src/lib/b.ts": "import c from '../c';\n", "src/c.ts": ""}
    paths = list(script)
    assert [paths[n] for n in import_order(paths, list(script.values()), "typescript")] == [
        "src/c.ts",
        "src/lib/b.ts",
        "src/a.ts",
    ]
    header = {"a.cpp": '#include "b/b.hpp"\n', "b/b.hpp": "#include <c.hpp>\n", "c.hpp": ""}
    assert import_order(list(header), list(header.values()), "cpp") == [2, 1, 0]
    java = {"x/A.java": "import y.B;\n", "y/B.java": "import static y.C.f;\n", "y/C.java": ""}
    assert import_order(list(java), list(java.values()), "java") == [2, 1, 0]
    rust = {"src/a.rs": "use crate::b::Thing;\n", "src/b.rs": "mod c;\n", "src/c.rs": ""}
    assert import_order(list(rust), list(rust.values()), "rust") == [2, 1, 0]
    go = {"cmd/main.go": 'import (\n\t"host/team/it/store/disk"\n)\n', "host/team/it/store/disk/d.go": "package disk\n"}
    assert import_order(list(go), list(go.values()), "go") == [1, 0]


def test_a_ring_of_imports_ends_and_holds_every_file_once():
    texts = [f"from m{(number + 1) % 5} import x\n" for number in range(5)]
    order = import_order([f"m{number}.py" for number in range(5)], texts, "python")
    assert sorted(order) == list(range(5))


def test_files_are_joined_behind_their_paths_for_long_contexts(config, tmp_path):
    texts = made(replace(config, joined=40_000), tmp_path)
    joined = [text for text in texts.values() if text.count("\n# json/") + text.startswith("# json/") > 1]
    assert joined
    assert max(map(len, texts.values())) < 200_000


def test_whole_repositories_are_held_out():
    names = [f"team/{number}" for number in range(2000)]
    share = sum(is_heldout(name, 0.1) for name in names) / len(names)
    assert 0.08 < share < 0.12


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sources": ()}, "has no sources"),
        ({"languages": ("cobol",)}, "'cobol' is unknown: choose among python"),
        ({"parts": 0}, "0 parts"),
        ({"order": "size"}, "choose imports or path"),
    ],
)
def test_mistakes_in_the_configuration_are_named(fields, said):
    with pytest.raises(UserError, match=said):
        CorpusConfig(**{"sources": (CodeSource(folder="x"),), **fields})


def test_executors_that_are_unknown_or_lack_options_are_named():
    with pytest.raises(UserError, match="choose local, slurm or ray"):
        Execution("spark")
    with pytest.raises(UserError, match="partition and time"):
        Execution("slurm")


def test_left_over_documents_are_not_read_twice(corpus):
    texts, folder = corpus
    assert texts_in(folder, 3) == texts
