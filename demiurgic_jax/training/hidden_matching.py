"""Hidden states of chosen layers of the student, brought near to those of a teacher that runs beside it.

Per token and pair of layers the distance is 1 - cosine, or the mean square of the difference (Romero et al. 2015,
FitNets, arXiv:1412.6550; Sun et al. 2019, arXiv:1908.09355). Where the widths differ a learnt projection takes the
student's states to the teacher's width. It is trained beside the student and is no part of it: it lies in the
training state, not among the parameters that a checkpoint gives to sampling and export.

Shape suffixes: B batch, S sequence, E embed of the student, T embed of the teacher, P pairs of layers.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.training.blending import share_moved
from demiurgic_jax.training.losses import BLEND_SCHEDULES

MEASURES = ("cosine", "mse")


@dataclass(frozen=True)
class HiddenConfig:
    """`weight` times the mean distance over `layers`, pairs (student's layer, teacher's layer) counted from 0, is added
    to the loss of each token; 0: none. No pairs: the last layers of both. Where `schedule` is linear or cosine the
    weight goes to `final_weight` over the first `fraction` of the steps, and stays."""

    weight: float = 0.0
    measure: str = "cosine"
    layers: tuple[tuple[int, int], ...] = ()
    schedule: str = "constant"
    fraction: float = 1.0
    final_weight: float = 0.0

    def __post_init__(self) -> None:
        for name in ("weight", "final_weight"):
            if not getattr(self, name) >= 0:
                raise UserError(f"train.hidden.{name}={getattr(self, name)} must be at least 0")
        for name, known in (("measure", MEASURES), ("schedule", BLEND_SCHEDULES)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"train.hidden.{name}={getattr(self, name)!r} is unknown: choose one of {', '.join(known)}"
                )
        if not 0.0 < self.fraction <= 1.0:
            raise UserError(f"train.hidden.fraction={self.fraction} must be above 0 and at most 1")
        for pair in self.layers:
            if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(layer, int) for layer in pair)):
                raise UserError(
                    f"train.hidden.layers has {pair!r}: write pairs like ((5, 9), (11, 29)), the student's layer first"
                )

    @property
    def is_used(self) -> bool:
        return self.weight > 0 or (self.schedule != "constant" and self.final_weight > 0)

    def weight_at(self, step: jax.Array, first: int, steps: int) -> jax.Array:
        """Of the update after `step` updates, in a phase of so many `steps` that begins after update `first`."""
        if self.schedule == "constant":
            return jnp.float32(self.weight)
        share = share_moved(self.schedule, step, first, self.fraction * steps)
        return self.weight + share * (self.final_weight - self.weight)


class Projection(NamedTuple):
    """`weights` float32 [P, E, T], or () where the widths are one, and the moments of their optimizer."""

    weights: Any
    moments: Any


class Trained(NamedTuple):
    """What the loss is differentiated for."""

    student: Any
    projection: Any


@dataclass(frozen=True)
class HiddenMatching:
    """Which layers are compared, and how. `optimizer` is the projection's."""

    student_layers: tuple[int, ...]
    teacher_layers: tuple[int, ...]
    measure: str
    widths: tuple[int, int]
    optimizer: optax.GradientTransformation

    @property
    def projects(self) -> bool:
        return self.widths[0] != self.widths[1]

    def initial_weights(self, key: jax.Array) -> Any:
        """Float32 [P, E, T] that keep the length of a state on average, or ()."""
        if not self.projects:
            return ()
        shape = (len(self.student_layers), *self.widths)
        return jax.random.normal(key, shape, jnp.float32) / jnp.sqrt(jnp.float32(self.widths[1]))

    def distance(self, student_PBSE: Any, teacher_PBST: Any, weights_BS: jax.Array, projection: Any) -> Any:
        """Float32 scalar: over tokens, their loss weight times the mean distance over the pairs.

        One pair at a time, and each again in the backward pass: of what is made of the states nothing stays.
        """

        @jax.checkpoint
        def of_pair(states: Any) -> jax.Array:
            student_BSE, teacher_BST, projection_ET = states
            if self.projects:
                cast = projection_ET.astype(student_BSE.dtype)
                student_BST = jnp.einsum("bse,et->bst", student_BSE, cast, preferred_element_type=jnp.float32)
            else:
                student_BST = student_BSE.astype(jnp.float32)
            teacher_BST = jax.lax.stop_gradient(teacher_BST).astype(jnp.float32)
            return jnp.sum(weights_BS * DISTANCES[self.measure](student_BST, teacher_BST))

        pairs = student_PBSE, teacher_PBST, projection
        return jnp.sum(jax.lax.map(of_pair, pairs)) / len(self.student_layers)


def cosine_distance(left: jax.Array, right: jax.Array) -> jax.Array:
    """1 - cosine over the last axis, [...]."""
    squares = jnp.sum(left * left, axis=-1) * jnp.sum(right * right, axis=-1)
    return 1 - jnp.sum(left * right, axis=-1) * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))


def mean_square(left: jax.Array, right: jax.Array) -> jax.Array:
    """The mean of (left - right)² over the last axis, [...]."""
    return jnp.mean(jnp.square(left - right), axis=-1)


DISTANCES = {"cosine": cosine_distance, "mse": mean_square}


def hidden_matching(
    config: HiddenConfig, student: ModelConfig, teacher: ModelConfig, optimizer: optax.GradientTransformation
) -> HiddenMatching:
    """What `config` says of these two networks. UserError names the layer that one of them lacks."""
    pairs = config.layers or ((student.num_layers - 1, teacher.num_layers - 1),)
    for pair in pairs:
        for who, layer, count in (
            ("student", pair[0], student.num_layers),
            ("teacher", pair[1], teacher.num_layers),
        ):
            if not 0 <= layer < count:
                raise UserError(
                    f"train.hidden.layers has layer {layer} of the {who}, which has layers 0 to {count - 1}"
                )
    if len({own for own, _ in pairs}) < len(pairs) or len({other for _, other in pairs}) < len(pairs):
        raise UserError(f"train.hidden.layers={pairs} names a layer twice: each may be in one pair")
    own, others = zip(*pairs, strict=True)
    return HiddenMatching(own, others, config.measure, (student.embed_dim, teacher.embed_dim), optimizer)
