"""Checkpoints: one folder a step, each holding all that sampling, export and resume need.

    CHECKPOINTS/STEP/params/      Orbax arrays
                     optimizer/   Orbax arrays (absent from imported models)
                     card/        JSON: model config, fingerprints, provenance, digests of the arrays
                     tokenizer/   the tokenizer's own files
    CHECKPOINTS/STEP.damaged      what was found to be damaged, moved aside

Orbax writes a step under a temporary name and renames it when it is whole, so a kill during a save
leaves the step before as the newest. What was damaged later is found by its checksums when it is read.
"""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.card_item import CardHandler, CardSave
from demiurgic_jax.checkpoints.digest import by_path, digests
from demiurgic_jax.checkpoints.reading import (
    DamagedCheckpointError,
    StoredArray,
    read_arrays,
    read_card,
    read_tokenizer,
    stored_dtypes,
)
from demiurgic_jax.checkpoints.retention import Retention, RetentionPolicy
from demiurgic_jax.checkpoints.tokenizer_item import TokenizerHandler, TokenizerSave
from demiurgic_jax.checkpoints.unread import array_handlers, digests_once_read, is_unread
from demiurgic_jax.data.files import NO_ROOM
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.parameters import abstract_parameters, at_path

T = TypeVar("T")


def _not_told_by_orbax(record: logging.LogRecord) -> bool:
    return not record.exc_info or f"{os.sep}orbax{os.sep}" not in record.pathname


# What fails in the background is raised by the next call here. Orbax prints it first, a hundred lines for each of the
# threads that it passes, under which the sentence that says what to do is lost.
logging.getLogger("absl").addFilter(_not_told_by_orbax)


@dataclass(frozen=True)
class OpenedModel:
    """A checkpoint opened for use: `params` are host arrays (float32) unless shardings were given."""

    config: ModelConfig
    params: Any
    tokenizer: Tokenizer
    card: Card
    step: int


class CheckpointFolder:
    """The checkpoints of one run. Saves go on in the background; `close` waits for the last one.

    Where there are several processes, all make the same calls in the same order, each giving and getting what its
    devices hold.
    """

    def __init__(self, folder: str | Path, retention: Retention = Retention()):  # noqa: B008 (it is frozen)
        self.path = Path(folder).absolute()
        self._retention = retention
        self._figures: dict[int, float | None] = {}
        with self._writing():
            self._manager = ocp.CheckpointManager(
                self.path,
                item_handlers={
                    # Trained weights hardly compress, and compressing takes the step's own cores.
                    "params": ocp.PyTreeCheckpointHandler(
                        use_compression=False, type_handler_registry=array_handlers()
                    ),
                    "optimizer": ocp.PyTreeCheckpointHandler(use_compression=False),
                    "card": CardHandler(),
                    "tokenizer": TokenizerHandler(),
                },
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=RetentionPolicy(retention, self._figure), enable_async_checkpointing=True
                ),
            )

    def __enter__(self) -> "CheckpointFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        # Closing waits for the other processes, which one that fails must not.
        if kind is None or jax.process_count() == 1:
            self.close()

    def close(self) -> None:
        with self._writing():
            self._manager.close()

    def latest_step(self) -> int | None:
        """The newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, params: Any, tokenizer: Tokenizer, card: Card, opt_state: Any = None) -> None:
        """Begins to write checkpoint `step`; returns once the arrays may be changed. `params` may be unread
        (checkpoints/unread.py): then each is read in the background when it is to be written, and there is no
        `opt_state`."""
        arrays = {"params": params} if opt_state is None else {"params": params, "optimizer": by_path(opt_state)}
        self.require_room(arrays)

        def filled_in(found: dict[str, dict[str, int]]) -> Card:
            return replace(card, tokenizer_fingerprint=tokenizer.fingerprint, digests=found)

        if is_unread(params):
            card_save = CardSave(lambda: filled_in({"params": digests_once_read(params)}))
        else:
            known = filled_in({item: digests(tree) for item, tree in arrays.items()})
            card_save = CardSave(lambda: known)
        self._figures[step] = card.heldout.get(self._retention.metric)
        items = {item: ocp.args.PyTreeSave(tree) for item, tree in arrays.items()}
        args = ocp.args.Composite(card=card_save, tokenizer=TokenizerSave(tokenizer), **items)
        with self._writing():
            self._manager.save(step, args=args, force=True)

    def require_room(self, arrays: Any) -> None:
        """UserError when the disk has no room for `arrays` (abstract ones will do) or cannot be written: said before
        anything is computed or half written."""
        with self._writing():
            # Orbax, refused a folder, would wait for it for five minutes.
            probe = self.path / f"writable-{jax.process_index()}.tmp"
            probe.mkdir(exist_ok=True)
            probe.rmdir()
        needed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(arrays))
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise UserError(
                f"a checkpoint takes {needed / 1e9:,.3f} GB and the disk of {self.path} has {free / 1e9:,.3f} GB free: "
                "free some space and run the same command again; every whole checkpoint is kept"
            )

    def wait(self) -> None:
        """Returns when everything begun is on disk, in all processes. UserError when it could not be written."""
        with self._writing():
            self._manager.wait_until_finished()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoint written")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Says of a disk that takes no more what to do. Python's files and TensorStore report it in different ways."""
        try:
            yield
        except (OSError, ValueError) as error:
            code = error.errno if isinstance(error, OSError) else None
            if code in NO_ROOM or any(f"[os_error_code='{number}']" in str(error) for number in NO_ROOM):
                raise UserError(
                    f"the disk of {self.path} is full, so a checkpoint could not be written: free some space and run "
                    "the same command again; the last whole checkpoint is kept"
                ) from error
            if code is not None and code in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise UserError(
                    f"{self.path} cannot be written ({os.strerror(code)}): give a --workdir that can, or make this one "
                    "writable"
                ) from error
            raise

    def _figure(self, step: int) -> float | None:
        """What the card of `step` says of the metric that the best checkpoints are chosen by."""
        if step not in self._figures:
            try:
                self._figures[step] = self.card(step).heldout.get(self._retention.metric)
            except UserError:
                self._figures[step] = None  # a damaged card: no candidate, and reported when it is to be used
        return self._figures[step]

    def card(self, step: int) -> Card:
        return read_card(self.path / str(step))

    def restore(self, step: int, params: Any, opt_state: Any = None) -> tuple[Any, Any]:
        """Parameters and optimizer state as the abstract trees say (shapes, dtypes, shardings).

        UserError naming the first parameter whose shape differs; DamagedCheckpointError when the arrays are not those
        that were saved.
        """
        folder = self.path / str(step)
        card = read_card(folder)
        restored = read_arrays(folder, "params", params, card)
        if opt_state is None:
            return restored, None
        moments = read_arrays(folder, "optimizer", by_path(opt_state), card)
        leaves = [moments[name] for name in by_path(opt_state)]
        return restored, jax.tree.unflatten(jax.tree.structure(opt_state), leaves)

    def newest_whole(self, restore: Callable[[int], T], report: Callable[[int, DamagedCheckpointError], None]) -> T:
        """`restore(step)` of the newest checkpoint for which no process finds damage.

        Damaged ones are reported and moved aside, to STEP.damaged. UserError when none is left.
        """
        while (step := self.latest_step()) is not None:
            damage = None
            try:
                restored = restore(step)
            except DamagedCheckpointError as error:
                damage = error
            if not _anywhere(damage is not None):
                return restored
            damage = damage or DamagedCheckpointError(self.path / str(step), "another process could not read its part")
            report(step, damage)
            self._move_aside(step)
        raise UserError(
            f"{self.path} holds no whole checkpoint any more: put a copy of one there, or remove that folder to train "
            "anew"
        )

    def _move_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            aside = self.path / f"{step}.damaged"
            shutil.rmtree(aside, ignore_errors=True)
            with self._writing():
                (self.path / str(step)).rename(aside)
        _anywhere(False)  # all wait until it is done
        self._manager.reload()

    def open(self, step: int) -> OpenedModel:
        """The model of checkpoint `step`, its parameters on the host."""
        return _open(self.path / str(step))


def _anywhere(condition: bool) -> bool:
    """Whether it holds in any process; all must ask."""
    if jax.process_count() == 1:
        return condition
    return bool(np.any(multihost_utils.process_allgather(np.array(condition))))


def _open(folder: Path) -> OpenedModel:
    card = read_card(folder)
    on_host = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on_host), abstract_parameters(card.model)
    )
    params = jax.tree.map(np.asarray, read_arrays(folder, "params", abstract, card))
    return OpenedModel(card.model, params, read_tokenizer(folder, card), card, int(folder.name))


def open_model(folder: str | Path) -> OpenedModel:
    """The newest model in a folder of checkpoints, or the one in a single STEP folder."""
    return _open(_newest(folder))


@dataclass(frozen=True)
class StoredModel:
    """A checkpoint before its arrays are read: `array(path)` is a leaf of the parameters, of which some rows at a time
    are read, in the dtype that it is stored in (`dtypes`, by path)."""

    config: ModelConfig
    tokenizer: Tokenizer
    card: Card
    step: int
    folder: Path
    dtypes: Mapping[tuple[str, ...], np.dtype]

    def array(self, path: tuple[str, ...]) -> StoredArray:
        return StoredArray(
            self.folder, "params", path, at_path(path, abstract_parameters(self.config)).shape, self.card
        )


def open_stored(folder: str | Path) -> StoredModel:
    """The newest model in a folder of checkpoints, or the one in a single STEP folder, before its arrays are read.

    UserError when its arrays are not those of its card's network.
    """
    path = _newest(folder)
    card = read_card(path)
    found = stored_dtypes(path, "params")
    paths = jax.tree_util.tree_flatten_with_path(abstract_parameters(card.model))[0]
    dtypes = {}
    for keys, _ in paths:
        if (name := jax.tree_util.keystr(keys)) not in found:
            raise DamagedCheckpointError(path, f"its parameter {name} is missing")
        dtypes[tuple(key.key for key in keys)] = found[name]
    return StoredModel(card.model, read_tokenizer(path, card), card, int(path.name), path, dtypes)


def open_card(folder: str | Path) -> Card:
    """What that model's card says, without its arrays being read."""
    return read_card(_newest(folder))


def _newest(folder: str | Path) -> Path:
    path = Path(folder).absolute()
    if not path.is_dir():
        raise UserError(f"checkpoint folder {path} does not exist")
    if path.name.isdigit() and (path / "card").is_dir():
        return path
    steps = ocp.utils.checkpoint_steps(path)
    if not steps:
        raise UserError(f"{path} holds no finished checkpoint: give a run's `checkpoints` folder, or one of its steps")
    return path / str(max(steps))
