"""Optimizers and learning rates by name, from a config.

Every optimizer is a chain: gradients clipped by their global norm, a direction (what the name says), decoupled weight
decay, the factor of the parameter's group, the learning rate. The directions are of about the size of Adam's, so that a
learning rate means much the same for all but Lion, whose signs want a third to a tenth of it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon, schedule_free

from demiurgic_jax.errors import UserError
from demiurgic_jax.training.averages import average_parameters
from demiurgic_jax.training.moments import in_bfloat16

MOMENT_DTYPES = ("float32", "bfloat16")
# Size of Muon's updates, root mean square: that of AdamW's in practice (Liu et al. 2025, arXiv 2502.16982).
MUON_RMS = 0.2


@dataclass(frozen=True)
class OptimizerConfig:
    """The learning rate rises linearly over `warmup_steps` to `learning_rate`, then `schedule` takes it to
    `final_fraction` of that at the last step: `cosine`, `linear`, `wsd` (level, then linearly down over the last
    `decay_fraction` of the steps) or `constant`, which stays.

    `name`: `adamw` (Loshchilov & Hutter 2019), `adafactor` (Shazeer & Stern 2018: no first moment, a second one of rows
    and columns only), `lion` (Chen et al. 2023), `muon` (Jordan et al. 2024: orthogonal updates of a layer's matrices,
    momentum 0.95; Adam's for all else), `schedule_free` (AdamW of Defazio et al. 2024; needs `constant`).

    `moments_dtype` bfloat16 halves the moments, rounded stochastically. Weight decay spares norms and biases.
    `learning_rate_factors` maps patterns of parameter names ("embedding", "layers/w_*") to factors; the first that fits
    counts. With `ema_decay` > 0 an average of the parameters is kept too, and where `evaluate_ema` it is what held-out
    figures and checkpoints are of.
    """

    name: str = "adamw"
    schedule: str = "cosine"
    learning_rate: float = 3e-4
    warmup_steps: int = 100
    final_fraction: float = 0.1
    decay_fraction: float = 0.2
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    moments_dtype: str = "float32"
    learning_rate_factors: Mapping[str, float] = field(default_factory=dict)
    ema_decay: float = 0.0
    evaluate_ema: bool = True

    def __post_init__(self) -> None:
        for name, known in (("name", DIRECTIONS), ("schedule", SCHEDULES), ("moments_dtype", MOMENT_DTYPES)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"optimizer.{name}={getattr(self, name)!r} is unknown: choose one of {', '.join(known)}"
                )
        if not 0.0 <= self.ema_decay < 1.0:
            raise UserError(f"optimizer.ema_decay={self.ema_decay} must be at least 0 (no average) and below 1")
        if not 0.0 < self.decay_fraction <= 1.0:
            raise UserError(f"optimizer.decay_fraction={self.decay_fraction} must be above 0 and at most 1")
        if self.name == "schedule_free":
            if self.schedule != "constant":
                raise UserError(f"optimizer.name=schedule_free takes no schedule={self.schedule}: set it to constant")
            if self.ema_decay:
                raise UserError("optimizer.name=schedule_free averages by itself: set optimizer.ema_decay to 0")
            if self.beta1 <= 0:
                raise UserError(f"optimizer.beta1={self.beta1} must be above 0 for schedule_free")

    @property
    def evaluates_average(self) -> bool:
        """Whether held-out figures and checkpoints are of an average rather than of the weights being trained."""
        return self.name == "schedule_free" or (self.ema_decay > 0 and self.evaluate_ema)


def _cosine(config: OptimizerConfig, steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(config.learning_rate, steps, alpha=config.final_fraction)


def _linear(config: OptimizerConfig, steps: int) -> optax.Schedule:
    return optax.linear_schedule(config.learning_rate, config.learning_rate * config.final_fraction, steps)


def _wsd(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Warmup, stable, decay (Hu et al. 2024)."""
    falling = max(1, round(config.decay_fraction * steps))
    level = optax.constant_schedule(config.learning_rate)
    return optax.join_schedules([level, _linear(config, falling)], [steps - falling])


SCHEDULES: Mapping[str, Callable[[OptimizerConfig, int], optax.Schedule]] = {
    "cosine": _cosine,
    "wsd": _wsd,
    "linear": _linear,
    "constant": lambda config, steps: optax.constant_schedule(config.learning_rate),
}


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Step to learning rate, over a run of `steps`."""
    if config.warmup_steps >= steps:
        raise UserError(
            f"optimizer.warmup_steps={config.warmup_steps} leaves nothing of train.steps={steps}: make it smaller"
        )
    # Not from 0: a first step that changes nothing would be a step paid for in vain.
    first = config.learning_rate / (config.warmup_steps + 1)
    warmup = optax.linear_schedule(first, config.learning_rate, config.warmup_steps)
    after = SCHEDULES[config.schedule](config, steps - config.warmup_steps)
    return optax.join_schedules([warmup, after], [config.warmup_steps])


def _map_named(function: Callable[[str, Any], Any], params: Any) -> Any:
    """`function(name, parameter)` over the tree; names are like "layers/wq"."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: function("/".join(str(key.key) for key in path), leaf), params
    )


def _is_matrix(name: str, _: Any = None) -> bool:
    """False for gains and biases."""
    last = name.rpartition("/")[2]
    return "norm" not in last and not last.startswith("b")


def _decays(params: Any) -> Any:
    """True for matrices; gains and biases are not pulled towards zero."""
    return _map_named(_is_matrix, params)


def _layer_matrix(name: str, leaf: Any) -> MuonDimensionNumbers | None:
    """Which axes of a stacked weight are a layer's matrix, from its input to its output; None where it is none.

    Heads and their channels are one side of it: wq [L, E, H, D] is E × H·D, wo [L, H, D, E] is H·D × E.
    """
    if not _is_matrix(name) or not name.startswith("layers/"):
        return None
    inputs = range(1, leaf.ndim - 1) if name == "layers/wo" else range(1, 2)
    return MuonDimensionNumbers(tuple(inputs), tuple(range(inputs.stop, leaf.ndim)))


def _matrix_shape(name: str, leaf: Any) -> tuple[int, ...]:
    """[L, in, out] for a stacked weight, else the shape as it is."""
    dimensions = _layer_matrix(name, leaf)
    if dimensions is None:
        return leaf.shape
    sides = (dimensions.reduction_axis, dimensions.output_axis)
    return (leaf.shape[0], *(math.prod(leaf.shape[axis] for axis in side) for side in sides))


def _stored(config: OptimizerConfig, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    return in_bfloat16(inner) if config.moments_dtype == "bfloat16" else inner


def _adam(config: OptimizerConfig) -> optax.GradientTransformation:
    return _stored(config, optax.scale_by_adam(config.beta1, config.beta2, config.eps))


def _adafactor(config: OptimizerConfig) -> optax.GradientTransformation:
    """Optax factors over an array's two largest dimensions, if both are large: heads and channels have to be one."""
    inner = optax.scale_by_factored_rms()

    def flat(tree: Any) -> Any:
        return _map_named(lambda name, leaf: leaf.reshape(_matrix_shape(name, leaf)), tree)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        directions, state = inner.update(flat(updates), state, flat(params))
        return jax.tree.map(lambda x, like: x.reshape(like.shape), directions, updates), state

    factored = optax.GradientTransformation(lambda params: inner.init(flat(params)), update)
    return optax.chain(factored, optax.clip_by_block_rms(1.0))


def _lion(config: OptimizerConfig) -> optax.GradientTransformation:
    return _stored(config, optax.scale_by_lion(config.beta1, config.beta2))


def _muon(config: OptimizerConfig) -> optax.GradientTransformation:
    def matrices(params: Any) -> Any:
        return _map_named(_layer_matrix, params)

    def kinds(params: Any) -> Any:
        return _map_named(lambda name, leaf: "adam" if _layer_matrix(name, leaf) is None else "muon", params)

    def to_rms(updates: Any, _: Any = None) -> Any:
        """An orthogonal matrix has a root mean square of 1 / sqrt(its larger side)."""
        return _map_named(lambda name, x: x * MUON_RMS * math.sqrt(max(_matrix_shape(name, x)[1:])), updates)

    momentum = scale_by_muon(weight_dimension_numbers=matrices)
    orthogonal = optax.chain(_stored(config, momentum), optax.stateless(to_rms))
    return optax.partition({"muon": orthogonal, "adam": _adam(config)}, kinds)


def _rms(config: OptimizerConfig) -> optax.GradientTransformation:
    """Adam without its first moment, whose part the averaging takes."""
    rms = optax.scale_by_rms(config.beta2, config.eps, eps_in_sqrt=False, bias_correction=True)
    return _stored(config, rms)


DIRECTIONS: Mapping[str, Callable[[OptimizerConfig], optax.GradientTransformation]] = {
    "adamw": _adam,
    "adafactor": _adafactor,
    "lion": _lion,
    "muon": _muon,
    "schedule_free": _rms,
}


def _scale_by_group(factors: Mapping[str, float]) -> optax.GradientTransformation:
    def factor(name: str) -> float:
        return next((factor for pattern, factor in factors.items() if fnmatchcase(name, pattern)), 1.0)

    def update(updates: Any, params: Any = None) -> Any:
        names = jax.tree.leaves(_map_named(lambda name, _: name, updates))
        for pattern in factors:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(
                    f"optimizer.learning_rate_factors: no parameter is called {pattern!r}; there are {', '.join(names)}"
                )
        return _map_named(lambda name, leaf: factor(name) * leaf, updates)

    return optax.stateless(update)


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The chain that the config names, for a run of `steps`."""
    schedule = learning_rate_schedule(config, steps)
    parts = [
        DIRECTIONS[config.name](config),
        optax.add_decayed_weights(config.weight_decay, mask=_decays),
        *([_scale_by_group(config.learning_rate_factors)] if config.learning_rate_factors else []),
        optax.scale_by_learning_rate(schedule),
    ]
    chain = optax.chain(*parts)
    if config.name == "schedule_free":
        chain = schedule_free(chain, schedule, b1=config.beta1)
    averages = [average_parameters(config.ema_decay)] if config.ema_decay else []
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), chain, *averages)
