"""JSON lines, Parquet and TensorFlow Datasets become documents of their rows."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from demiurgic_jax.data.chat import encode_example
from demiurgic_jax.data.completer import Message
from demiurgic_jax.data.shards import write_shards
from demiurgic_jax.data.sources import SourceConfig, source_digest, source_documents, source_files
from demiurgic_jax.errors import UserError

TEXTS = [f"def f{i}():\n    return '数 {i}'\n" for i in range(11)]


@pytest.fixture
def lines(tmp_path) -> SourceConfig:
    """Eleven rows in a plain and a gzipped file."""
    rows = [json.dumps({"content": text, "id": i}).encode() + b"\n" for i, text in enumerate(TEXTS)]
    (tmp_path / "a.jsonl").write_bytes(b"".join(rows[:4]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"".join(rows[4:])))
    return SourceConfig("mine", path=str(tmp_path), text="content", licence="MIT", language="python")


def texts(tokenizer, documents) -> list[str]:
    found = []
    for document in documents:
        assert document.tokens[-1] == tokenizer.special.eos
        found.append(tokenizer.decode(document.tokens[:-1].tolist()))
    return found


def test_every_row_is_a_document_in_order(lines, tokenizer):
    documents = list(source_documents(lines, tokenizer))
    assert texts(tokenizer, documents) == TEXTS
    assert [document.key for document in documents] == [f"mine-{i}" for i in range(11)]
    assert {(d.task, d.licence, d.language, d.loss_mask) for d in documents} == {("code", "MIT", "python", None)}


@pytest.mark.parametrize("num_parts", [2, 3])
def test_parts_share_the_rows(lines, tokenizer, num_parts):
    parts = [list(source_documents(lines, tokenizer, part=i, num_parts=num_parts)) for i in range(num_parts)]
    for i, part in enumerate(parts):
        assert texts(tokenizer, part) == TEXTS[i::num_parts]


def test_prompt_and_completion_are_a_question_and_its_answer(tokenizer, tmp_path):
    (tmp_path / "qa.jsonl").write_text('{"q": "1+1?", "a": "2"}\n')
    source = SourceConfig("qa", path=str(tmp_path / "*.jsonl"), prompt="q", completion="a", task="explain")
    (document,) = source_documents(source, tokenizer)
    tokens, mask = encode_example(tokenizer, [Message("user", "1+1?")], "2")
    np.testing.assert_array_equal(document.tokens, tokens)
    np.testing.assert_array_equal(document.loss_mask, mask)


def test_a_changed_file_has_another_digest(lines, tmp_path):
    before = source_digest(lines)
    assert source_digest(lines) == before
    (tmp_path / "a.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes()[:-1])
    assert source_digest(lines) != before


def test_parquet_rows_are_documents(tokenizer, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra [parquet])")
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"content": TEXTS, "n": list(range(11))}), tmp_path / "t.parquet")
    source = SourceConfig("mine", path=str(tmp_path / "t.parquet"), text="content")
    assert texts(tokenizer, source_documents(source, tokenizer)) == TEXTS
    with pytest.raises(UserError, match=r"t\.parquet row 0 has no text in its field 'n': name one of content, n"):
        list(source_documents(replace(source, text="n"), tokenizer))
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"t\.parquet is no Parquet file or is damaged"):
        list(source_documents(source, tokenizer))


def test_a_tfds_dataset_is_a_source(tokenizer, tmp_path):
    pytest.importorskip("tensorflow", reason="tensorflow is not installed (extra [tfds])")
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed (extra [tfds])")
    tfds.dataset_builders.store_as_tfds_dataset(
        name="snippets",
        version="1.0.0",
        data_dir=tmp_path,
        split_datasets={"train": [(number, {"code": text}) for number, text in enumerate(TEXTS)]},
        disable_shuffling=True,
        features=tfds.features.FeaturesDict({"code": tfds.features.Text()}),
    )
    by_name = SourceConfig("mine", tfds="snippets:1.0.0", data_dir=str(tmp_path), text="code")
    by_folder = SourceConfig("mine", tfds=str(tmp_path / "snippets" / "1.0.0"), text="code")
    for source in (by_name, by_folder):
        assert texts(tokenizer, source_documents(source, tokenizer)) == TEXTS
        assert texts(tokenizer, source_documents(source, tokenizer, part=1, num_parts=4)) == TEXTS[1::4]
    assert source_digest(by_name) == source_digest(by_folder)
    with pytest.raises(UserError, match="has no split 'test'; it has train"):
        list(source_documents(replace(by_name, split="test"), tokenizer))
    with pytest.raises(UserError, match="there is no tfds='no_such_dataset'"):
        list(source_documents(replace(by_name, tfds="no_such_dataset"), tokenizer))


def test_shards_are_made_of_a_source(lines, tokenizer, tmp_path):
    documents = list(source_documents(lines, tokenizer))
    shard_set = write_shards(tmp_path / "s", documents, tokenizer=tokenizer, num_shards=2, provenance={})
    assert (len(shard_set), shard_set.manifest["licences"]) == (11, {"MIT": 11})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"content": "x"}\n{"content": 5}\n', "line 2 has no text in its field 'content': name one of content"),
        (b'{"other": "x"}\n', "line 1 has no text in its field 'content': name one of other"),
        (b'{"content": "x"\n', "line 1 is not JSON"),
        (b"[1]\n", "line 1 is not a JSON object"),
    ],
)
def test_a_row_without_text_is_refused_by_file_and_line(tokenizer, tmp_path, content, complaint):
    (tmp_path / "bad.jsonl").write_bytes(content)
    source = SourceConfig("mine", path=str(tmp_path / "bad.jsonl"), text="content")
    with pytest.raises(UserError, match=f"bad.jsonl {complaint}"):
        list(source_documents(source, tokenizer))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"name": "a/b", "path": "x"}, "a source is called 'a/b'"),
        ({"name": "a"}, "source a: give either path"),
        ({"name": "a", "path": "x", "tfds": "y"}, "source a: give either path"),
        ({"name": "a", "path": "x", "prompt": "q"}, "source a: prompt and completion go together"),
    ],
)
def test_a_source_that_says_too_little_or_too_much_is_refused(fields, complaint):
    with pytest.raises(UserError, match=complaint):
        SourceConfig(**fields)


def test_files_that_are_not_there_or_of_another_kind_are_refused(tmp_path):
    with pytest.raises(UserError, match="source a: no file is at"):
        source_files(SourceConfig("a", path=str(tmp_path)))
    (tmp_path / "x.csv").write_text("a")
    with pytest.raises(UserError, match=r"x\.csv is none of \.jsonl, \.jsonl\.gz, \.parquet"):
        source_files(SourceConfig("a", path=str(tmp_path / "x.csv")))
