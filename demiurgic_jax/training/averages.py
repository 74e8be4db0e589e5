"""Weights averaged over the steps: what is evaluated and sampled from, where it is not what is trained."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import ScheduleFreeState, schedule_free_eval_params


class ParameterAverage(NamedTuple):
    """`average` of the parameters after each of `count` steps (int32 scalar), float32."""

    count: Any
    average: Any


def average_parameters(decay: float) -> optax.GradientTransformation:
    """Leaves updates as they are and keeps the exponential moving average of what the parameters become.

    It begins at the first parameters and forgets them: the decay of step t is min(decay, (1 + t) / (10 + t)), as in
    TensorFlow's ExponentialMovingAverage. Last of a chain.
    """

    def init(params: Any) -> ParameterAverage:
        # A copy: the step donates parameters and state, and no array can be given away twice.
        return ParameterAverage(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: ParameterAverage, params: Any = None) -> tuple[Any, ParameterAverage]:
        keep = jnp.minimum(decay, (1 + state.count) / (10 + state.count))
        after = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, state.average, after)
        return updates, ParameterAverage(state.count + 1, average)

    return optax.GradientTransformation(init, update)


def find_average(params: Any, opt_state: Any) -> Any | None:
    """The average that an optimizer state holds of the parameters being trained; None where it holds none."""

    def is_average(node: Any) -> bool:
        return isinstance(node, ParameterAverage | ScheduleFreeState)

    found = next(filter(is_average, jax.tree.leaves(opt_state, is_leaf=is_average)), None)
    if isinstance(found, ScheduleFreeState):
        return schedule_free_eval_params(found, params)
    return None if found is None else found.average
