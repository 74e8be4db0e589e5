"""What goes out of a network: its tensors in the order, names and layout of a family, one after the other."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.families import Family
from demiurgic_jax.interop.layout import Form, Place, narrowed, stored_from_ours
from demiurgic_jax.model.config import ModelConfig


class Source(Protocol):
    """A network of which one parameter at a time is read (checkpoints' StoredModel)."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def dtypes(self) -> Mapping[tuple[str, ...], np.dtype]: ...

    def array(self, path: tuple[str, ...]) -> np.ndarray: ...


def require_tokenizer(source: Source) -> None:
    """UserError when the tokenizer has ids that the embedding has no row for."""
    if source.tokenizer.vocab_size > source.config.vocab_size:
        raise UserError(
            f"the checkpoint's tokenizer has {source.tokenizer.vocab_size} ids, its embedding "
            f"{source.config.vocab_size} rows: they do not belong together"
        )


def stored_tensors(
    source: Source, family: Family, form: Form, found: list[Place], dtypes: Mapping[str, Any]
) -> Iterator[np.ndarray]:
    """Every tensor of `found`, layer by layer, as dtypes[our name of it] and in the layout of `form`."""
    for place in found:
        value = source.array(place.path)
        dtype = dtypes[place.row.ours]
        pairs = form == "gguf" and family.rotary_pairs and place.row.rotary
        adds = place.row.gguf_adds if form == "gguf" else 0.0
        for layer, name in enumerate(place.names):
            part = narrowed(value[layer] if place.stacked else value, dtype, name)
            yield stored_from_ours(part, place, dtype, pairs, adds)
