"""What goes out of a network: its tensors in the order, names and layout of a family, one after the other."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
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
    source: Source,
    family: Family,
    form: Form,
    found: list[Place],
    dtypes: Mapping[str, Any],
    finish: Callable[[Place, np.ndarray], np.ndarray] = lambda _, tensor: tensor,
) -> Iterator[np.ndarray]:
    """`finish` of every tensor of `found`, layer by layer, as dtypes[our name of it] and in the layout of `form`.

    While one is being written the next layers are made, one on each core.
    """
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for place in found:
            value = source.array(place.path)
            make = partial(_stored, value, place, dtypes[place.row.ours], form, family, finish)
            ahead: deque[Future[np.ndarray]] = deque()
            for layer in range(len(place.names)):
                ahead.append(pool.submit(make, layer))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
            del value, make


def _stored(
    value: np.ndarray,
    place: Place,
    dtype: Any,
    form: Form,
    family: Family,
    finish: Callable[[Place, np.ndarray], np.ndarray],
    layer: int,
) -> np.ndarray:
    pairs = form == "gguf" and family.rotary_pairs and place.row.rotary
    adds = place.row.gguf_adds if form == "gguf" else 0.0
    part = narrowed(value[layer] if place.stacked else value, dtype, place.names[layer])
    return finish(place, stored_from_ours(part, place, dtype, pairs, adds))
