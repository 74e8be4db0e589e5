"""What config.train, config.phases and config.init.ladder come to: one TrainConfig for each phase of a run."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig, named_config
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.ladder import on_ladder
from demiurgic_jax.training.phases import placed
from experiments.configuration import as_dataclass


@dataclass(frozen=True)
class PhaseConfig:
    """A phase as the config says it."""

    name: str
    train: TrainConfig


def phase_configs(config: ConfigDict, model: ModelConfig | None = None) -> list[PhaseConfig]:
    """The phases in their order; one without a name where config.phases is empty.

    With `model` and config.init.ladder their figures are those of the ladder for this size. UserError names the phase
    and the field that does not fit.
    """
    phases = []
    for index, overrides in enumerate(config.phases or ({},)):
        where = f"phases[{index}]"
        if not isinstance(overrides, Mapping):
            raise UserError(f"config.{where} is {overrides!r}: write a dict like {{'name': 'code', 'steps': 100}}")
        fields = dict(overrides)
        name = fields.pop("name", "")
        train = as_dataclass(TrainConfig, _overridden(config.train, fields, where), "train")
        if config.init.ladder and model is not None:
            train = on_ladder(train, named_config(config.init.ladder), model)
        phases.append(PhaseConfig(name, train))
    placed([phase.name for phase in phases], [phase.train.steps for phase in phases])
    return phases


def _overridden(base: ConfigDict, overrides: Mapping[str, Any], where: str) -> ConfigDict:
    """A copy of `base` with other values for some of its fields, which must exist and keep their types."""
    changed = base.copy_and_resolve_references()
    for name, value in overrides.items():
        if name not in changed:
            near = (difflib.get_close_matches(name, changed.keys(), n=1, cutoff=0.0) or [""])[0]
            raise UserError(f"config.{where} has the unknown field {name!r}: did you mean {near}?")
        current = changed[name]
        if isinstance(current, ConfigDict):
            if not isinstance(value, Mapping):
                raise UserError(f"config.{where}.{name} is {value!r}: write a dict of its fields {', '.join(current)}")
            changed[name] = _overridden(current, value, f"{where}.{name}")
            continue
        if isinstance(current, float) and type(value) is int:
            value = float(value)
        if isinstance(current, tuple) and isinstance(value, list):
            value = tuple(value)
        if type(value) is not type(current):
            raise UserError(f"config.{where}.{name}={value!r} is no {type(current).__name__}, as train.{name} is")
        changed[name] = value
    return changed
