"""Where a run, or a phase of it, stands: what it begins or goes on with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder
from demiurgic_jax.checkpoints.reading import DamagedCheckpointError
from demiurgic_jax.errors import UserError
from demiurgic_jax.sharding.placement import put_array
from demiurgic_jax.training.state import TrainState, restored_state, to_save


@dataclass(frozen=True)
class Phase:
    """What a run of several phases (training/phases.py) says of this one: it begins after step `start` of the run, with
    the parameters of that step's checkpoint. The checkpoints of the steps `ends` are kept. `number` counts from 1; all
    phases together take `run_steps` steps."""

    name: str = ""
    start: int = 0
    ends: tuple[int, ...] = ()
    number: int = 0
    run_steps: int = 0


def standing(
    checkpoints: CheckpointFolder,
    phase: Phase,
    card: Card,
    abstract: TrainState,
    begin: Callable[[Any], TrainState],
    initial_params: Callable[[], Any],
    report: Callable[[int, DamagedCheckpointError], None],
    *,
    averaged: bool,
) -> tuple[TrainState, Card]:
    """The state of the newest whole checkpoint and its card; of a phase's beginning with `card`, and what `begin` makes
    of its parameters.

    Where checkpoints hold an average (`averaged`), training goes on from what it is the average of, and a phase begins
    with the average. Without any checkpoint the parameters are `initial_params()`. Damaged checkpoints are reported and
    moved aside. UserError when the checkpoint is of other data, of another network, or of an earlier phase.
    """
    if checkpoints.latest_step() is None:
        return begin(initial_params()), card

    def restore(step: int) -> tuple[TrainState, Card]:
        counted = put_array(np.int32(step), abstract.step.sharding)
        if step == phase.start:
            params, _ = checkpoints.restore(step, abstract.params)
            return begin(jax.device_get(params))._replace(step=counted), card
        stored = checkpoints.card(step)
        if step < phase.start:
            raise UserError(
                f"the newest whole checkpoint of {checkpoints.path} is step {step}, and phase {phase.name!r} begins "
                f"after step {phase.start}: run the same command again, which goes on from there"
            )
        _require_same_data(stored, card, checkpoints)
        return restored_state(counted, *checkpoints.restore(step, abstract.params, to_save(abstract, averaged))), stored

    return checkpoints.newest_whole(restore, report)


def _require_same_data(stored: Card, card: Card, checkpoints: CheckpointFolder) -> None:
    folder = checkpoints.path.parent
    if stored.data_fingerprint != card.data_fingerprint:
        raise UserError(
            f"the checkpoint in {folder} was trained on other shards (fingerprint {stored.data_fingerprint[:12]}, "
            f"now {card.data_fingerprint[:12]}): remove {folder}, or use another --workdir"
        )
