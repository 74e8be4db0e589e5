"""Where the network's values lie: what the decoder asks of whoever runs it on many devices.

The decoder knows no mesh. It names the logical axes of a value, and a `Layout` says what these mean; the default is
one device, on which every value simply is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from demiurgic_jax.model.attention import attention

Axes = tuple[str, ...]


def attend_alone(q_BSHD: jax.Array, k_BSKD: jax.Array, v_BSKD: jax.Array, segment_ids_BS: jax.Array) -> jax.Array:
    """Attention of rows that are whole on this device."""
    return attention(q_BSHD, k_BSKD, v_BSKD, segment_ids_BS, segment_ids_BS)


@dataclass(frozen=True)
class Layout:
    """Functions, mostly; hashable, so that a Decoder stays a static argument.

    `constrain(x, axes)` fixes how an activation is spread. `gather(weight, axes)` gives the whole weight from the
    part that a device stores. `attend(q, k, v, segment_ids)` is causal attention within segments: q [B, S, H, D],
    k and v [B, S, K, D], segment_ids [B, S], over whatever part of the sequence each device has.

    A gathered embedding [V, E] may lie over the mesh axis `vocabulary`, and its rows in another order than the ids':
    `vocabulary_rows(ids, V)` says which row is whose.
    """

    constrain: Callable[[jax.Array, Axes], jax.Array] = lambda x, axes: x
    gather: Callable[[jax.Array, Axes], jax.Array] = lambda weight, axes: weight
    attend: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array] = attend_alone
    vocabulary: str | None = None
    vocabulary_rows: Callable[[jax.Array, int], jax.Array] = lambda ids, size: ids


ONE_DEVICE = Layout()
