import json
import resource
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from data_samples import random_documents, standard_library_text

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.shards import ShardSet, ShardSetWriter, write_shards
from demiurgic_jax.data.tokenizer import save_tokenizer
from demiurgic_jax.errors import UserError


def assert_same_document(one: Document, other: Document) -> None:
    for field in ("key", "language", "task", "licence"):
        assert getattr(one, field) == getattr(other, field)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    for document in (one, other):
        assert document.loss_mask is None or len(document.loss_mask) == len(document.tokens)
    ones = np.ones(len(one.tokens), np.uint8)
    np.testing.assert_array_equal(
        ones if one.loss_mask is None else one.loss_mask, ones if other.loss_mask is None else other.loss_mask
    )
    assert (one.soft_targets is None) == (other.soft_targets is None)
    if one.soft_targets is not None and other.soft_targets is not None:
        for field in ("counts", "ids", "logprobs"):
            np.testing.assert_array_equal(getattr(one.soft_targets, field), getattr(other.soft_targets, field))
            assert getattr(one.soft_targets, field).dtype == getattr(other.soft_targets, field).dtype


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_documents_come_back_whole_and_in_order(shard_set, documents):
    assert len(shard_set) == len(documents)
    for i, document in enumerate(documents):
        assert_same_document(shard_set.read(i), document)
    assert shard_set.lengths.tolist() == [len(document.tokens) for document in documents]
    assert shard_set.lengths.dtype == np.int32
    shard_set.verify()


def test_reopening_finds_the_same_set(shard_set):
    again = ShardSet(shard_set.folder)
    assert again.fingerprint == shard_set.fingerprint
    assert_same_document(again.read(17), shard_set.read(17))
    assert again.provenance == {"source": "tests", "teacher": None}


def test_manifest_counts_what_is_there(shard_set, documents, tokenizer):
    manifest = shard_set.manifest
    assert manifest["documents"] == 60
    assert manifest["tokens"] == sum(len(document.tokens) for document in documents)
    assert manifest["languages"] == {"python": 30, "rust": 30}
    assert manifest["tasks"] == {"complete": 20, "fix": 20, "explain": 20}
    assert manifest["licences"] == {"MIT": 30, "Apache-2.0": 30}
    assert manifest["soft_target_cap"] == max(d.soft_targets.counts.max() for d in documents if d.soft_targets)
    assert manifest["tokenizer_fingerprint"] == tokenizer.fingerprint
    assert (manifest["vocab_size"], manifest["token_dtype"]) == (tokenizer.vocab_size, "uint16")
    assert sum(entry["documents"] for entry in manifest["shards"]) == 60


def test_large_vocabularies_are_stored_in_32_bits(tokenizer, tmp_path):
    class LargeVocabulary:
        fingerprint = "large"
        vocab_size = 100_000

    document = Document("a", "python", "complete", np.array([0, 70_000, 99_999]))
    shard_set = write_shards(tmp_path, [document], tokenizer=LargeVocabulary(), num_shards=1, provenance={})
    assert shard_set.manifest["token_dtype"] == "uint32"
    assert_same_document(shard_set.read(0), document)


def test_writing_twice_gives_the_same_bytes(shard_set, documents, tokenizer, tmp_path):
    write_shards(tmp_path / "again", documents, tokenizer=tokenizer, num_shards=4, provenance=shard_set.provenance)
    assert contents(tmp_path / "again") == contents(shard_set.folder)


def test_more_shards_than_documents_leaves_empty_ones(tokenizer, tmp_path):
    documents = random_documents(2)
    shard_set = write_shards(tmp_path, documents, tokenizer=tokenizer, num_shards=5, provenance={})
    for i, document in enumerate(documents):
        assert_same_document(shard_set.read(i), document)


def test_finished_shards_are_not_written_again(shard_set, tokenizer, documents):
    folder = shard_set.folder
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*tfrecord*")}
    (folder / "manifest.json").unlink()
    write_shards(folder, documents, tokenizer=tokenizer, num_shards=4, provenance=shard_set.provenance)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*tfrecord*")} == before


def test_shards_of_another_provenance_or_count_are_replaced(shard_set, tokenizer, documents, tmp_path):
    writer = ShardSetWriter(shard_set.folder, tokenizer=tokenizer, num_shards=4, provenance={"source": "other"})
    assert not any(writer.has_shard(shard) for shard in range(4))
    write_shards(shard_set.folder, documents[:7], tokenizer=tokenizer, num_shards=2, provenance={})
    write_shards(tmp_path / "fresh", documents[:7], tokenizer=tokenizer, num_shards=2, provenance={})
    assert contents(shard_set.folder) == contents(tmp_path / "fresh")


def test_the_wrong_tokenizer_is_refused_by_both_names(shard_set, tokenizer):
    shard_set.require_tokenizer(tokenizer)
    other = train_sentencepiece(standard_library_text()[:1], 500)
    with pytest.raises(UserError) as refusal:
        shard_set.require_tokenizer(other)
    assert tokenizer.fingerprint in str(refusal.value)
    assert other.fingerprint in str(refusal.value)


def test_a_truncated_shard_is_refused_by_the_record_that_is_cut(shard_set):
    path = shard_set.folder / shard_set.manifest["shards"][1]["file"]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)
    with pytest.raises(UserError, match=rf"{path.name} is cut short at record 14 "):
        ShardSet(shard_set.folder)


@pytest.mark.parametrize("suffix", ["", ".index"])
def test_a_missing_file_is_refused_by_name(shard_set, suffix):
    name = "documents-train.tfrecord-00003-of-00004" + suffix
    (shard_set.folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        ShardSet(shard_set.folder)


def test_an_index_of_another_set_is_refused(shard_set, tokenizer, tmp_path):
    other = write_shards(tmp_path / "o", random_documents(60, seed=1), tokenizer=tokenizer, num_shards=4, provenance={})
    name = "documents-train.tfrecord-00000-of-00004.index"
    (shard_set.folder / name).write_bytes((other.folder / name).read_bytes())
    with pytest.raises(UserError, match=r"\.index is not the one that manifest\.json describes"):
        ShardSet(shard_set.folder)


@pytest.mark.parametrize("made", [True, False])
def test_an_empty_or_missing_folder_is_refused(tmp_path, made):
    folder = tmp_path / "shards"
    if made:
        folder.mkdir()
    with pytest.raises(UserError, match=f"shard folder {folder} is empty or missing; make the shards first"):
        ShardSet(folder)


def test_an_unfinished_set_is_refused(tokenizer, documents, tmp_path):
    writer = ShardSetWriter(tmp_path, tokenizer=tokenizer, num_shards=2, provenance={})
    writer.write_shard(0, documents)
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        ShardSet(tmp_path)
    with pytest.raises(ValueError, match=r"shards \[1\]"):
        writer.finish()


def test_a_document_that_does_not_fit_is_refused_by_key(tokenizer, tmp_path):
    good = random_documents(2)[1]
    short = good.loss_mask[:-1]
    for bad, complaint in [
        (replace(good, tokens=np.array([], int)), "has no tokens"),
        (replace(good, tokens=np.array([3, 700]), loss_mask=None), "token ids from 3 to 700 but the tokenizer has 700"),
        (replace(good, loss_mask=short), "a loss_mask of"),
        (replace(good, soft_targets=good.soft_targets.slice(0, 1)), "soft targets for 1"),
    ]:
        with pytest.raises(UserError, match=f"document 'document-1' .*{complaint}"):
            write_shards(tmp_path, [good, bad], tokenizer=tokenizer, num_shards=1, provenance={})
        assert not list(tmp_path.glob("*tfrecord*"))


WRITE_BEYOND_LIMIT = """
import sys
from demiurgic_jax.data.shards import write_shards
from demiurgic_jax.data.tokenizer import load_tokenizer
from demiurgic_jax.errors import UserError
from data_samples import random_documents
try:
    write_shards(sys.argv[1], random_documents(60), tokenizer=load_tokenizer(sys.argv[2]), num_shards=4, provenance={})
except UserError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_is_one_sentence_and_loses_nothing(tokenizer, documents, tmp_path):
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    unlimited = write_shards(tmp_path / "u", documents, tokenizer=tokenizer, num_shards=4, provenance={})
    sizes = [entry["bytes"] for entry in unlimited.manifest["shards"]]
    limit = sizes[0] + 100
    assert max(sizes) > limit

    def no_larger_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-c", WRITE_BEYOND_LIMIT, str(tmp_path / "s"), str(tmp_path / "tokenizer")]
    # The limit would also cut compiled modules short, for every process after this one.
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(command, capture_output=True, text=True, preexec_fn=no_larger_files, env=environment)
    assert run.returncode == 1
    assert "could not be written (File too large); make room" in run.stderr
    assert "Traceback" not in run.stderr
    assert not list((tmp_path / "s").glob("*.tmp"))
    kept = sorted(path.name for path in (tmp_path / "s").glob("*-of-00004"))
    first_too_large = next(i for i, size in enumerate(sizes) if size > limit)
    assert len(kept) == first_too_large
    assert kept
    write_shards(tmp_path / "s", documents, tokenizer=tokenizer, num_shards=4, provenance={})
    assert contents(tmp_path / "s") == contents(tmp_path / "u")


def test_manifest_is_readable_json_without_a_time_or_path(shard_set):
    text = (shard_set.folder / "manifest.json").read_text()
    assert json.loads(text)["format"] == 1
    assert str(shard_set.folder.parent) not in text
