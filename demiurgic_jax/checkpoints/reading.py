"""Reads one checkpoint, a STEP folder, and says by name what is damaged or does not fit.

No process waits here for another: each reads what its own devices hold.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath
from orbax.checkpoint.options import MultiprocessingOptions

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.card_item import CardHandler
from demiurgic_jax.checkpoints.digest import by_path, digest_of_part, digests, first_difference
from demiurgic_jax.checkpoints.tokenizer_item import TokenizerHandler
from demiurgic_jax.data.files import give_back_pages
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError


class DamagedCheckpointError(UserError):
    """A checkpoint is not what was saved. `reason` is the part of the sentence that says why."""

    def __init__(self, folder: Path, reason: str):
        self.folder, self.reason = folder, reason
        super().__init__(
            f"checkpoint {folder} is damaged or incomplete ({reason}): copy it anew, or remove that folder to go on "
            "from the one before"
        )


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except (UserError, MemoryError, PermissionError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        # What Orbax, TensorStore and the parsers under them raise for bytes that make no sense has no common class.
        reason = (str(error.__cause__ or error) or type(error).__name__).splitlines()[0]
        raise DamagedCheckpointError(folder, reason) from error


def read_card(folder: Path) -> Card:
    """The card of the checkpoint in `folder`; its checksum is verified."""
    with _damage_named(folder):
        return Card.from_dict(CardHandler().restore(epath.Path(folder / "card")), f"checkpoint {folder}")


def read_tokenizer(folder: Path, card: Card) -> Tokenizer:
    """The tokenizer; DamagedCheckpointError unless it is the one that `card` names."""
    with _damage_named(folder):
        if not (folder / "tokenizer").is_dir():
            raise ValueError("its tokenizer is missing")
        tokenizer = TokenizerHandler().restore(epath.Path(folder / "tokenizer"))
        if tokenizer.fingerprint != card.tokenizer_fingerprint:
            raise ValueError("its tokenizer is not the one that was saved")
        return tokenizer


def read_arrays(folder: Path, item: str, abstract: Any, card: Card) -> Any:
    """The arrays of `item` (params, optimizer) as the abstract tree says: shapes, dtypes, shardings (this process's
    first device where it says none).

    They are read as they were stored, compared with the digests in `card`, then cast. DamagedCheckpointError names the
    first array that differs; UserError the first one that is missing, too many, or of another shape than in `abstract`.
    """
    index = jax.process_index()
    handler = ocp.PyTreeCheckpointHandler(
        multiprocessing_options=MultiprocessingOptions(index, {index}, barrier_sync_key_prefix=f"alone-{index}")
    )
    source = epath.Path(folder / item)
    with _damage_named(folder):
        if not source.is_dir():
            raise ValueError(f"its {item} is missing")
        stored = by_path(dict(handler.metadata(source).tree))
    _require_shapes(folder, stored, by_path(abstract))
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with _damage_named(folder):
        as_stored = jax.tree.map_with_path(
            lambda path, leaf: jax.ShapeDtypeStruct(
                leaf.shape, stored[jax.tree_util.keystr(path)].dtype, sharding=leaf.sharding or here
            ),
            abstract,
        )
        arguments = ocp.checkpoint_utils.construct_restore_args(as_stored)
        restored = handler.restore(source, args=ocp.args.PyTreeRestore(as_stored, restore_args=arguments))
    if other := first_difference(digests(restored), card.digests.get(item, {})):
        raise DamagedCheckpointError(folder, f"its {other} is not what was saved")
    return jax.tree.map(lambda leaf, wanted: leaf.astype(wanted.dtype), restored, abstract)


def stored_dtypes(folder: Path, item: str) -> dict[str, Any]:
    """The dtype of every array of `item` by its path, as it lies on disk."""
    with _damage_named(folder):
        return {
            name: np.dtype(leaf.dtype)
            for name, leaf in by_path(
                dict(ocp.PyTreeCheckpointHandler().metadata(epath.Path(folder / item)).tree)
            ).items()
        }


class StoredArray:
    """One array of `item`, mapped: its rows (along the first axis) are read some at a time, in the dtype that they are
    stored in, and no other array is. DamagedCheckpointError, UserError when it is missing or of another shape."""

    def __init__(self, folder: Path, item: str, path: Sequence[str], shape: tuple[int, ...], card: Card):
        self._folder, self._files = folder, folder / item
        self._name = "".join(f"['{name}']" for name in path)
        self._digest = card.digests.get(item, {}).get(self._name)
        self._sums: dict[tuple[int, int], int] = {}
        base = {"driver": "file", "path": f"{self._files}/", "file_io_mode": {"mode": "memmap"}}
        store = {"driver": "zarr", "kvstore": {"driver": "ocdbt", "base": base, "path": f"{'.'.join(path)}/"}}
        with _damage_named(folder):
            self._store = ts.open(store, open=True, read=True).result()
        _require_shapes(folder, {self._name: self._store}, {self._name: jax.ShapeDtypeStruct(shape, np.float32)})

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` as an array of its own, which adds to what `finish` checks. For any thread."""
        found = np.empty((stop - start, *self._store.shape[1:]), self._store.dtype.numpy_dtype)
        with _damage_named(self._folder):
            ts.array(found).write(self._store[start:stop].translate_to[0]).result()
        self._sums[start, stop] = digest_of_part(found, start * math.prod(found.shape[1:]))
        return found

    def finish(self) -> None:
        """To be called when each row has been read once: DamagedCheckpointError unless they are what was saved.

        Its pages are given back. Which parts of which files these are only TensorStore knows, so those of other arrays
        are too, unless they are mapped.
        """
        read = sorted(self._sums)
        ends = [0, *(stop for _, stop in read)]
        assert ends == [*(start for start, _ in read), self._store.shape[0]], f"rows {read} of {self._store.shape[0]}"
        if sum(self._sums.values()) % 2**32 != self._digest:
            raise DamagedCheckpointError(self._folder, f"its {self._name} is not what was saved")
        give_back_pages(self._files)


def _require_shapes(folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, leaf in wanted.items():
        if name not in stored:
            raise UserError(f"checkpoint {folder} has no parameter {name}: it holds another network")
        if tuple(stored[name].shape) != leaf.shape:
            raise UserError(
                f"checkpoint {folder} has parameter {name} of shape {tuple(stored[name].shape)}, the config wants "
                f"{leaf.shape}: use the config that it was trained with, or another workdir"
            )
    for name in stored:
        if name not in wanted:
            raise UserError(f"checkpoint {folder} has a parameter {name} too many: it holds another network")
