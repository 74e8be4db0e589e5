"""A curated corpus becomes shards and a sample for the tokenizer; runs without a corpus go without its stage."""

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("datatrove")

from datatrove.data import Document
from rich.console import Console

from demiurgic_jax.curation.corpus.parts import write_ranks
from demiurgic_jax.curation.sources import standard_library
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.tokenizer import load_tokenizer, save_tokenizer
from demiurgic_jax.errors import UserError
from experiments.configuration import load_config
from experiments.progress import StageProgress
from experiments.stages.corpus import CORPUS, pairs
from experiments.stages.corpus_shards import sample_texts, write_corpus_shards
from experiments.stages.stage import Run
from experiments.workdir import Workdir

PARTS = 2


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    folder, _ = standard_library()
    return {path.name: path.read_text() for path in sorted((folder / "json").glob("*.py"))}


@pytest.fixture(scope="module")
def corpus(texts, tmp_path_factory) -> Path:
    """Two parts of documents; every second is said to be Go."""
    folder = tmp_path_factory.mktemp("corpus")
    for part in range(PARTS):
        documents = [
            Document(text, f"{number:016x}", metadata={"language": "go" if number % 2 else "python", "licence": "MIT"})
            for number, text in enumerate(texts.values())
            if number % PARTS == part
        ]
        assert len(list(write_ranks(folder / "documents").run(iter(documents), part, PARTS))) == len(documents)
    save_tokenizer(train_sentencepiece(texts.values(), 600), folder / "tokenizer")
    return folder


def test_each_document_is_in_a_shard_whole_and_ends_with_the_end_of_text(corpus, texts, tmp_path):
    quiet = StageProgress("shards", Console(quiet=True))
    arguments = corpus / "documents", corpus / "tokenizer", tmp_path / "shards", PARTS, {"of": "test"}, quiet
    shards = write_corpus_shards(*arguments, processes=2)
    tokenizer = load_tokenizer(corpus / "tokenizer")
    found = [shards.read(number) for number in range(len(shards))]
    assert sorted(tokenizer.decode(each.tokens[:-1].tolist()) for each in found) == sorted(texts.values())
    assert {int(each.tokens[-1]) for each in found} == {tokenizer.special.eos}
    assert Counter(each.language for each in found) == {"python": -(-len(texts) // 2), "go": len(texts) // 2}
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").glob("*.tfrecord*")}
    assert write_corpus_shards(*arguments, processes=1).fingerprint == shards.fingerprint
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_the_tokenizer_sees_languages_by_their_weights(tmp_path):
    documents = [
        Document(f"{number} " * 100, f"{number:016x}", metadata={"language": "go" if number % 4 else "python"})
        for number in range(2000)
    ]
    list(write_ranks(tmp_path).run(iter(documents), 0, 1))
    sizes = Counter()
    for each in documents:
        sizes[each.metadata["language"]] += len(each.text)
    of = {each.text: each.metadata["language"] for each in documents}
    taken = Counter()
    for text in sample_texts(tmp_path, 1, sizes, {"python": 3.0}, 0.2):
        taken[of[text]] += len(text)
    assert taken["python"] == pytest.approx(150_000, rel=0.2)
    assert taken["go"] == pytest.approx(50_000, rel=0.2)


def test_only_runs_with_sources_have_the_stage(tmp_path):
    for name, applies in (("quickstart", False), ("tiny_scratch", True), ("7b_scratch", True)):
        config = load_config(name)
        assert CORPUS.applies(Run(name, config, Workdir(tmp_path / name, name, config))) is applies


def test_mistakes_in_the_config_are_named_before_anything_runs(tmp_path):
    for field, value, said in (
        ("corpus.languages", "('cobol',)", "'cobol' is unknown"),
        ("corpus.executor.kind", "slurm", "partition and time"),
        ("corpus.language_weights", "('python', 2)", "holds no pairs"),
        ("corpus.order", "size", "choose imports or path"),
        ("corpus.licences.policy", "nice", "choose permissive"),
    ):
        config = load_config("tiny_scratch", [(field, value)])
        with pytest.raises(UserError, match=said):
            CORPUS.check(Run("tiny_scratch", config, Workdir(tmp_path / field, "tiny_scratch", config)))
    assert pairs((("python", 2.0),), "x") == {"python": 2.0}
