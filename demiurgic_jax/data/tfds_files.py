"""What makes a shard folder a TensorFlow Datasets directory: `tfds.builder_from_directory(folder)` reads it."""

import json
from collections.abc import Mapping, Sequence

from demiurgic_jax.data.shard_index import ShardSummary

DATASET, SPLIT, FILE_FORMAT = "documents", "train", "tfrecord"
_FEATURES = "tensorflow_datasets.core.features."


def _text() -> dict:
    return {"pythonClassName": _FEATURES + "text_feature.Text", "text": {}}


def _array(dtype: str) -> dict:
    """A vector of any length, stored as its little-endian bytes."""
    tensor = {"shape": {"dimensions": ["-1"]}, "dtype": dtype, "encoding": "bytes"}
    return {"pythonClassName": _FEATURES + "tensor_feature.Tensor", "tensor": tensor}


def tfds_files(token_dtype: str, summaries: Sequence[ShardSummary]) -> Mapping[str, bytes]:
    """features.json and dataset_info.json of a folder with these shards."""
    features = {name: _text() for name in ("key", "language", "task", "licence")}
    features |= {"tokens": _array(token_dtype), "teacher_ids": _array(token_dtype)}
    features |= {"loss_mask": _array("uint8"), "teacher_counts": _array("uint8"), "teacher_logprobs": _array("float16")}
    info = {
        "name": DATASET,
        "version": "1.0.0",
        "description": "Tokenized training documents; an empty loss_mask means that every token is learnt.",
        "fileFormat": FILE_FORMAT,
        "splits": [
            {
                "name": SPLIT,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "shardLengths": [str(summary.documents) for summary in summaries],
                "numBytes": str(sum(summary.shard_bytes for summary in summaries)),
            }
        ],
    }
    contents = {
        "dataset_info.json": info,
        "features.json": {
            "pythonClassName": _FEATURES + "features_dict.FeaturesDict",
            "featuresDict": {"features": features},
        },
    }
    return {name: (json.dumps(value, indent=2, sort_keys=True) + "\n").encode() for name, value in contents.items()}
