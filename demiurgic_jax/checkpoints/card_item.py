"""A card as one item of an Orbax checkpoint: a file of JSON, written once it is known what it says."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from demiurgic_jax.checkpoints.card import Card

_FILE = "metadata"


class CardHandler(ocp.AsyncCheckpointHandler):
    """Writes `Card.to_dict()`, once for all processes, and reads it back as it is."""

    async def async_save(self, directory: epath.Path, args: "CardSave") -> list[ocp.future.Future]:
        async def write() -> None:
            self.save(directory, args)  # in a thread of its own

        return [ocp.future.CommitFutureAwaitingContractedSignals(write(), name="card")]

    def save(self, directory: epath.Path, args: "CardSave") -> None:
        card = args.card()
        if jax.process_index() == 0:
            (directory / _FILE).write_text(json.dumps(card.to_dict()))

    def restore(self, directory: epath.Path, args: Any = None) -> dict[str, Any]:
        return json.loads((directory / _FILE).read_bytes())


@ocp.args.register_with_handler(CardHandler, for_save=True)
@dataclass
class CardSave(ocp.args.CheckpointArgs):
    """`card` is called in the background, where it may wait for arrays to be read."""

    card: Callable[[], Card]


@ocp.args.register_with_handler(CardHandler, for_restore=True)
@dataclass
class CardRestore(ocp.args.CheckpointArgs):
    pass
