"""A network of ours as a GGUF file: what llama.cpp and Ollama read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.data.files import give_back_pages
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.exporting import Source, require_tokenizer, stored_tensors
from demiurgic_jax.interop.families import family_of
from demiurgic_jax.interop.gguf_config import ROPE_FREQUENCIES, rope_divisors, write_config
from demiurgic_jax.interop.gguf_file import library
from demiurgic_jax.interop.gguf_tokenizer import write_tokenizer
from demiurgic_jax.interop.layout import DTYPES, Place, places
from demiurgic_jax.interop.model_card import CardFacts
from demiurgic_jax.interop.output import finished_file, require_room
from demiurgic_jax.interop.reading import Progress

# What a user asks for → GGML's type of the matrices, and the number of the mixture that the file says it is.
# Gains and biases are always float32: llama.cpp takes them in nothing else.
KINDS: Mapping[str, tuple[str, str]] = {
    "float32": ("F32", "ALL_F32"),
    "float16": ("F16", "MOSTLY_F16"),
    "bfloat16": ("BF16", "MOSTLY_BF16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
}
_FLOATS = {"F32": DTYPES["float32"], "F16": DTYPES["float16"], "BF16": DTYPES["bfloat16"]}


def export_gguf(
    source: Source, path: Path, facts: CardFacts, *, kind: str = "float16", progress: Progress | None = None
) -> None:
    """Makes the file `path`, whole or not at all, reading one parameter of `source` at a time.

    `kind` is one of KINDS. UserError when the file exists, when llama.cpp knows no such network or tokenizer, or its
    numbers do not fit into `kind`.
    """
    if kind not in KINDS:
        raise UserError(f"GGUF of {kind} cannot be written: choose one of {', '.join(KINDS)}")
    gguf = library("writing")
    config = source.config
    family = family_of(config)
    require_tokenizer(source)
    found = places(config, family, "gguf")
    types = {place.row.ours: _type(place, KINDS[kind][0]) for place in found}
    dtypes = {name: _FLOATS.get(stored, DTYPES["float32"]) for name, stored in types.items()}
    sizes = {place.row.ours: _size(gguf, place, types[place.row.ours]) for place in found}
    total = sum(sizes[place.row.ours] * len(place.names) for place in found)
    require_room(path, total)
    with finished_file(path) as temporary:
        writer = gguf.GGUFWriter(temporary, family.gguf)
        writer.add_type("model")
        writer.add_name(facts.name)
        if facts.licence:
            writer.add_license(facts.licence)
        writer.add_file_type(gguf.LlamaFileType[KINDS[kind][1]])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        write_config(writer, config)
        write_tokenizer(writer, source.tokenizer, config.vocab_size)
        scaled = config.rope_scaling is not None and config.rope_scaling.kind == "llama3"
        if scaled:
            frequencies = rope_divisors(config)
            writer.add_tensor_info(ROPE_FREQUENCIES, frequencies.shape, frequencies.dtype, frequencies.nbytes)
        for place in found:
            stored = gguf.GGMLQuantizationType[types[place.row.ours]]
            for name in place.names:
                writer.add_tensor_info(name, place.stored_shape, np.dtype("f4"), sizes[place.row.ours], stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if scaled:
            writer.write_tensor_data(frequencies)
        done = 0

        def quantised(place: Place, tensor: np.ndarray) -> np.ndarray:
            if (stored := types[place.row.ours]) not in _FLOATS:
                tensor = gguf.quantize(tensor, gguf.GGMLQuantizationType[stored])
            return tensor.view(np.uint8)

        for tensor in stored_tensors(source, family, "gguf", found, dtypes, quantised):
            writer.write_tensor_data(tensor)
            give_back_pages(temporary)
            done += tensor.nbytes
            if progress is not None:
                progress(done, total)
        writer.close()


def _type(place: Place, wanted: str) -> str:
    if len(place.stored_shape) == 1:
        return "F32"
    # A block is 32 numbers of a row.
    return "F16" if wanted == "Q8_0" and place.stored_shape[1] % 32 else wanted


def _size(gguf: Any, place: Place, stored: str) -> int:
    numbers, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[stored]]
    return int(np.prod(place.stored_shape, dtype=np.int64)) // numbers * size
