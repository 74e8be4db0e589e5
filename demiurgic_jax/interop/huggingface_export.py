"""A network of ours as a Hugging Face folder: what `transformers`, vLLM and llama.cpp's converter read."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.data.tokenizer import SpecialTokens, Tokenizer
from demiurgic_jax.interop.exporting import Source, require_tokenizer, stored_tensors
from demiurgic_jax.interop.families import family_of
from demiurgic_jax.interop.huggingface_config import write_config
from demiurgic_jax.interop.layout import places
from demiurgic_jax.interop.model_card import CardFacts, model_card
from demiurgic_jax.interop.output import finished_folder, require_room
from demiurgic_jax.interop.reading import Progress
from demiurgic_jax.interop.safetensors_folder import INDEX, WEIGHTS
from demiurgic_jax.interop.safetensors_writer import TensorInfo, write_safetensors
from demiurgic_jax.interop.sentencepiece_vocabulary import Vocabulary, read_model, tokenizer_definition

SHARD_BYTES = 5 * 10**9


def export_huggingface(
    source: Source,
    folder: Path,
    facts: CardFacts,
    *,
    dtype: np.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> None:
    """Makes `folder`, whole or not at all, reading one parameter of `source` at a time.

    `dtype` None: each as the checkpoint stores it. UserError when the folder exists, when the network is of no family
    that others know, or its numbers do not fit into `dtype`.
    """
    config = source.config
    family = family_of(config)
    require_tokenizer(source)
    found = places(config, family, "huggingface")
    dtypes = {place.row.ours: dtype or source.dtypes[place.path] for place in found}
    infos = [TensorInfo(name, dtypes[place.row.ours], place.stored_shape) for place in found for name in place.names]
    total = sum(info.nbytes for info in infos)
    require_room(folder, total)
    tensors = _counted(stored_tensors(source, family, "huggingface", found, dtypes), total, progress)
    with finished_folder(folder) as temporary:
        shards = shards_of(infos, shard_bytes)
        names = [WEIGHTS] if len(shards) == 1 else [shard_name(i, len(shards)) for i in range(len(shards))]
        for name, shard in zip(names, shards, strict=True):
            write_safetensors(temporary / name, shard, tensors)
        if len(shards) > 1:
            weight_map = {info.name: name for name, shard in zip(names, shards, strict=True) for info in shard}
            _write_json(temporary / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        special = source.tokenizer.special
        _write_json(temporary / "config.json", write_config(config, special, dtypes["embedding"]))
        _write_json(temporary / "generation_config.json", _generation_config(special))
        for name, content in tokenizer_files(source.tokenizer).items():
            (temporary / name).write_bytes(content)
        (temporary / "README.md").write_text(model_card(config, family, source.tokenizer, facts))


def _counted(tensors: Iterator[np.ndarray], total: int, progress: Progress | None) -> Iterator[np.ndarray]:
    done = 0
    for tensor in tensors:
        yield tensor
        done += tensor.nbytes
        if progress is not None:
            progress(done, total)


def shards_of(infos: list[TensorInfo], shard_bytes: int) -> list[list[TensorInfo]]:
    """The tensors in files of `shard_bytes` at most, in their order."""
    shards: list[list[TensorInfo]] = [[]]
    size = 0
    for info in infos:
        if shards[-1] and size + info.nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(info)
        size += info.nbytes
    return shards


def shard_name(index: int, count: int) -> str:
    return f"model-{index + 1:05}-of-{count:05}.safetensors"


def _generation_config(special: SpecialTokens) -> dict[str, Any]:
    stops = list(special.stops) or [special.eos]
    return {"bos_token_id": special.bos, "eos_token_id": stops, "pad_token_id": special.pad}


def tokenizer_files(tokenizer: Tokenizer) -> Mapping[str, bytes]:
    """The tokenizer's own files, and for one of our own training the same as a tokenizer.json."""
    files = dict(tokenizer.files())
    config = json.loads(files["tokenizer_config.json"])
    # Any other class would rebuild the tokenizer as its model family's.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if "tokenizer.json" not in files:
        pieces = read_model(files["tokenizer.model"], "the tokenizer").pieces
        definition = tokenizer_definition(Vocabulary(pieces, space_prefix=False, exact=True))
        files["tokenizer.json"] = json.dumps(definition, ensure_ascii=False).encode()
        config["clean_up_tokenization_spaces"] = False
    if tokenizer.chat_template:
        config["chat_template"] = tokenizer.chat_template
    files["tokenizer_config.json"] = json.dumps(config, indent=2, ensure_ascii=False, sort_keys=True).encode()
    return files


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
