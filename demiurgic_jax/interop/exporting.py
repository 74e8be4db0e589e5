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

# More would only wait for the disk, each with a tensor or two in memory.
_MOST_WORKERS = 8


class StoredRows(Protocol):
    """An array of which some rows at a time are read (checkpoints' StoredArray)."""

    def rows(self, start: int, stop: int) -> np.ndarray: ...

    def finish(self) -> None:
        """All of it has been read: UserError unless it is what was once written."""
        ...


class Source(Protocol):
    """A network of which a part of a parameter at a time is read (checkpoints' StoredModel)."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def dtypes(self) -> Mapping[tuple[str, ...], np.dtype]: ...

    def array(self, path: tuple[str, ...]) -> StoredRows: ...


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

    While one is being written the next are read and made, one on each core. UserError once a parameter turns out not to
    be what was saved: what was written by then is of no use.
    """
    workers = min(os.cpu_count() or 1, _MOST_WORKERS)
    ahead: deque[tuple[Future[np.ndarray], StoredRows | None]] = deque()

    def first() -> np.ndarray:
        future, read = ahead.popleft()
        tensor = future.result()
        if read is not None:
            read.finish()
        return tensor

    with ThreadPoolExecutor(workers) as pool:
        try:
            for place in found:
                value = source.array(place.path)
                make = partial(_stored, value, place, dtypes[place.row.ours], form, family, finish)
                layers = len(place.names)
                for layer in range(layers):
                    ahead.append((pool.submit(make, layer), value if layer == layers - 1 else None))
                    if len(ahead) > workers:
                        yield first()
            while ahead:
                yield first()
        finally:
            pool.shutdown(cancel_futures=True)


def _stored(
    value: StoredRows,
    place: Place,
    dtype: Any,
    form: Form,
    family: Family,
    finish: Callable[[Place, np.ndarray], np.ndarray],
    layer: int,
) -> np.ndarray:
    pairs = form == "gguf" and family.rotary_pairs and place.row.rotary
    adds = place.row.gguf_adds if form == "gguf" else 0.0
    part = value.rows(layer, layer + 1)[0] if place.stacked else value.rows(0, place.shape[0])
    part = narrowed(part, dtype, place.names[layer])
    return finish(place, stored_from_ours(part, place, dtype, pairs, adds))
