"""Several phases in a row, say corpus, distillation, one skill each: each with its own data, loss and schedule.

The steps count on from phase to phase, in one folder with one curve of metrics. A phase begins with the parameters of
the last one's end and a new optimizer; its data and its schedule count from its own first step. The checkpoint at the
end of each phase is kept. Where a killed run goes on follows from its newest checkpoint: phases that ended before it
are passed over.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from demiurgic_jax.data.mixture import Mixture
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.loop import say_on_stderr, train
from demiurgic_jax.training.on_policy import Judge, Sampler
from demiurgic_jax.training.online_teacher import TeacherModel
from demiurgic_jax.training.profiling import ProfileWindow
from demiurgic_jax.training.resuming import Phase
from demiurgic_jax.training.watching import Watch


@dataclass(frozen=True)
class PhasePlan:
    """One phase: how it trains, on what, and how it samples and has its samples judged where it is on-policy. The name
    of a run's only phase may be empty."""

    name: str
    config: TrainConfig
    train_set: ShardSet | Mixture
    sample: Sampler | None = None
    judge: Judge | None = None


def placed(names: Sequence[str], steps: Sequence[int]) -> list[Phase]:
    """Where each phase of so many `steps` lies in the run. UserError when two have one name, or one has none."""
    if len(names) > 1 and (len(set(names)) < len(names) or not all(names)):
        raise UserError(f"the phases are called {', '.join(map(repr, names))}: give each a name of its own")
    ends = list(accumulate(steps))
    return [
        Phase(name, end - count, tuple(ends[:-1]), number if len(names) > 1 else 0, ends[-1])
        for number, (name, count, end) in enumerate(zip(names, steps, ends, strict=True), start=1)
    ]


def train_in_phases(
    plans: Sequence[PhasePlan],
    model: ModelConfig,
    tokenizer: Tokenizer,
    heldout_sets: Mapping[str, ShardSet],
    *,
    folder: Path,
    initial_params: Callable[[], Any],
    provenance: Mapping[str, Any],
    on_step: Callable[[int, Mapping[str, float]], None],
    profile: ProfileWindow | None = None,
    warn: Callable[[str], None] = say_on_stderr,
    open_teacher: Callable[[], TeacherModel] | None = None,
    watch: Watch | None = None,
) -> None:
    """Trains one phase after the other, as `train` does each. The rows of metrics say the phase's number, from 1."""
    phases = placed([plan.name for plan in plans], [plan.config.steps for plan in plans])
    if profile is not None:
        profile.require_ahead(0, phases[-1].run_steps)
    for plan, phase in zip(plans, phases, strict=True):
        train(
            plan.config,
            model,
            tokenizer,
            plan.train_set,
            heldout_sets,
            folder=folder,
            initial_params=initial_params,
            provenance=provenance,
            on_step=on_step,
            profile=profile if profile is not None and profile.starts_in(phase.start, plan.config.steps) else None,
            warn=warn,
            phase=phase,
            open_teacher=open_teacher,
            watch=watch,
            sample=plan.sample,
            judge=plan.judge,
        )
