"""Checkpoints: one folder a step, each holding all that sampling, export and resume need.

    CHECKPOINTS/STEP/params/      Orbax arrays
                     optimizer/   Orbax arrays (absent from imported models)
                     card/        JSON: model config, step, fingerprint of the data, provenance
                     tokenizer/   the tokenizer's own files

Orbax writes a step under a temporary name and renames it when it is whole, so a kill during a save
leaves the step before as the newest.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import ENOSPC
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.options import MultiprocessingOptions

from demiurgic_jax.checkpoints.tokenizer_item import TokenizerHandler, TokenizerRestore, TokenizerSave
from demiurgic_jax.data.files import NO_ROOM
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.parameters import abstract_parameters


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of itself besides its arrays."""

    model: ModelConfig
    data_fingerprint: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.to_dict(),
            "data_fingerprint": self.data_fingerprint,
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> "Card":
        if "model" not in values:
            raise UserError(f"{where} does not say which model it holds: it is not a checkpoint of this project")
        model = ModelConfig.from_dict(values["model"], where)
        return cls(model, values.get("data_fingerprint", ""), values.get("provenance", {}))


@dataclass(frozen=True)
class OpenedModel:
    """A checkpoint opened for use: `params` are host arrays (float32) unless shardings were given."""

    config: ModelConfig
    params: Any
    tokenizer: Tokenizer
    card: Card
    step: int


def _by_path(tree: Any) -> dict[str, Any]:
    """Leaves by path. Optimizer states are nested tuples of named tuples, whose classes may change from
    one optax to the next; paths and arrays are what a checkpoint promises to keep."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


class CheckpointFolder:
    """The checkpoints of one run. Saves go on in the background; `close` waits for the last one.

    Where there are several processes, all make the same calls in the same order, each giving and getting what its
    devices hold; `alone` is for one that reads while the others do something else.
    """

    def __init__(self, folder: str | Path, *, keep: int | None = None, alone: bool = False):
        self.path = Path(folder).absolute()
        processes = MultiprocessingOptions()
        if alone:
            index = jax.process_index()
            processes = MultiprocessingOptions(index, {index}, barrier_sync_key_prefix=f"alone-{index}")
        self._manager = ocp.CheckpointManager(
            self.path,
            item_handlers={
                "params": ocp.StandardCheckpointHandler(multiprocessing_options=processes),
                "optimizer": ocp.StandardCheckpointHandler(multiprocessing_options=processes),
                "card": ocp.JsonCheckpointHandler(multiprocessing_options=processes),
                "tokenizer": TokenizerHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, enable_async_checkpointing=True, create=not alone, multiprocessing_options=processes
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
        """The newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, params: Any, tokenizer: Tokenizer, card: Card, opt_state: Any = None) -> None:
        """Begins to write checkpoint `step`; returns once the arrays may be changed."""
        items: dict[str, Any] = {
            "params": ocp.args.StandardSave(params),
            "card": ocp.args.JsonSave(card.to_dict()),
            "tokenizer": TokenizerSave(tokenizer),
        }
        if opt_state is not None:
            items["optimizer"] = ocp.args.StandardSave(_by_path(opt_state))
        self.require_room([params, opt_state])
        with self._writing():
            self._manager.save(step, args=ocp.args.Composite(**items))

    def require_room(self, arrays: Any) -> None:
        """UserError when the disk has no room for `arrays` (abstract ones will do): said before anything is
        computed or half written."""
        needed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(arrays))
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise UserError(
                f"a checkpoint takes {needed / 1e9:,.3f} GB and the disk of {self.path} has {free / 1e9:,.3f} GB free: "
                "free some space and run the same command again; every whole checkpoint is kept"
            )

    def wait(self) -> None:
        """Returns when everything begun is on disk. UserError when it could not be written."""
        with self._writing():
            self._manager.wait_until_finished()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Says of a full disk what to do. Python's files and TensorStore's report it in different ways."""
        try:
            yield
        except (OSError, ValueError) as error:
            full = error.errno in NO_ROOM if isinstance(error, OSError) else f"[os_error_code='{ENOSPC}']" in str(error)
            if not full:
                raise
            raise UserError(
                f"the disk of {self.path} is full, so a checkpoint could not be written: free some space and run the "
                "same command again; the last whole checkpoint is kept"
            ) from error

    def card(self, step: int) -> Card:
        restored = self._read(step, card=ocp.args.JsonRestore())
        return Card.from_dict(restored["card"], f"checkpoint {self.path / str(step)}")

    def restore(self, step: int, params: Any, opt_state: Any = None) -> tuple[Any, Any]:
        """Parameters and optimizer state as the abstract trees say (shapes, dtypes, shardings).

        UserError naming the first parameter whose shape differs.
        """
        where = f"checkpoint {self.path / str(step)}"
        self._require_shapes(step, params, where)
        items: dict[str, Any] = {"params": ocp.args.StandardRestore(params)}
        if opt_state is not None:
            items["optimizer"] = ocp.args.StandardRestore(_by_path(opt_state))
        restored = self._read(step, **items)
        if opt_state is None:
            return restored["params"], None
        treedef = jax.tree.structure(opt_state)
        leaves = [restored["optimizer"][name] for name in _by_path(opt_state)]
        return restored["params"], jax.tree.unflatten(treedef, leaves)

    def open(self, step: int) -> OpenedModel:
        """The model of checkpoint `step`, its parameters on the host."""
        card = self.card(step)
        abstract = abstract_parameters(card.model)
        self._require_shapes(step, abstract, f"checkpoint {self.path / str(step)}")
        on_host = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on_host), abstract)
        restored = self._read(step, params=ocp.args.StandardRestore(abstract), tokenizer=TokenizerRestore())
        params = jax.tree.map(np.asarray, restored["params"])
        return OpenedModel(card.model, params, restored["tokenizer"], card, step)

    def _read(self, step: int, **items: Any) -> Any:
        with self._damage_named(step):
            return self._manager.restore(step, args=ocp.args.Composite(**items))

    @contextmanager
    def _damage_named(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Orbax raises a bare Exception for a chunk that it cannot read.
            if not isinstance(error, OSError | KeyError | ValueError) and type(error) is not Exception:
                raise
            reason = str(error.__cause__ or error).splitlines()[0]
            raise UserError(
                f"checkpoint {self.path / str(step)} is damaged or incomplete ({reason}): copy it anew, or remove that "
                "folder to go on from the one before"
            ) from error

    def _require_shapes(self, step: int, abstract: Any, where: str) -> None:
        with self._damage_named(step):
            tree = dict(self._manager.item_metadata(step)["params"].tree)
        stored = {name: tuple(leaf.shape) for name, leaf in _by_path(tree).items()}
        for name, leaf in _by_path(abstract).items():
            if name not in stored:
                raise UserError(f"{where} has no parameter {name}: it holds another network")
            if stored[name] != leaf.shape:
                raise UserError(
                    f"{where} has parameter {name} of shape {stored[name]}, the config wants {leaf.shape}: "
                    "use the config that it was trained with, or another workdir"
                )


def open_model(folder: str | Path) -> OpenedModel:
    """The newest model in a folder of checkpoints, or the one in a single STEP folder."""
    path = Path(folder).absolute()
    if not path.is_dir():
        raise UserError(f"checkpoint folder {path} does not exist")
    step: int | None = None
    if path.name.isdigit() and (path / "card").is_dir():
        path, step = path.parent, int(path.name)
    with CheckpointFolder(path, alone=True) as checkpoints:
        step = checkpoints.latest_step() if step is None else step
        if step is None:
            raise UserError(
                f"{path} holds no finished checkpoint: give a run's `checkpoints` folder, or one of its steps"
            )
        return checkpoints.open(step)
