import numpy as np
import pytest


def test_tensorflow_datasets_reads_the_folder(shard_set, documents):
    pytest.importorskip("tensorflow", reason="tensorflow is not installed (extra [tfds])")
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed (extra [tfds])")
    builder = tfds.builder_from_directory(str(shard_set.folder))
    assert builder.info.splits["train"].num_examples == len(documents)
    rows = {row["key"].decode(): row for row in tfds.as_numpy(builder.as_dataset(split="train"))}
    assert len(rows) == len(documents)
    for document in documents:
        row = rows[document.key]
        assert row["tokens"].dtype == np.uint16
        np.testing.assert_array_equal(row["tokens"], document.tokens)
        assert (row["language"].decode(), row["task"].decode()) == (document.language, document.task)
        np.testing.assert_array_equal(row["loss_mask"], [] if document.loss_mask is None else document.loss_mask)
        soft = document.soft_targets
        np.testing.assert_array_equal(row["teacher_counts"], [] if soft is None else soft.counts)
        np.testing.assert_array_equal(row["teacher_ids"], [] if soft is None else soft.ids)
        np.testing.assert_array_equal(row["teacher_logprobs"], [] if soft is None else soft.logprobs)
