"""How much each layer, head and MLP channel of a model does, measured on text.

The decoder shows its activations to the `Layout` that it asks where they lie; the one here takes their measure.

Shape suffixes as in model/decoder.py.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.model.layout import Axes, Layout, attend_alone


@dataclass(frozen=True)
class Importance:
    """Means over the tokens of a calibration batch.

    `layers`: 1 - the cosine between what goes into a layer and what comes out (Men et al. 2024, ShortGPT,
    arXiv:2403.03853). `heads`: the length of what a head adds to the residual stream. `channels`: the same of an MLP
    channel (activations as in Muralidharan et al. 2024, Minitron, arXiv:2407.14679, times the length of the row of
    w_down that carries them).
    """

    layers: np.ndarray  # float32 [L]
    heads: np.ndarray  # float32 [L, H]
    channels: np.ndarray  # float32 [L, F]


def measure_importance(params: Any, config: ModelConfig, tokens: np.ndarray) -> Importance:
    """Of a model on `tokens`, integer [B, S]: rows of text, without padding."""
    return Importance(*map(np.asarray, _measured(config, params, jnp.asarray(tokens, jnp.int32))))


def _measured(config: ModelConfig, params: Any, tokens_BS: jax.Array) -> tuple[jax.Array, ...]:
    def forward(params: Any, tokens_BS: jax.Array) -> tuple[jax.Array, ...]:
        residuals: list[jax.Array] = []
        mixed: list[jax.Array] = []
        hidden: list[jax.Array] = []

        def constrain(x: jax.Array, axes: Axes) -> jax.Array:
            if axes[-1] == "act_embed":
                residuals.append(x)
            elif axes[-1] == "act_mlp":
                hidden.append(x)
            return x

        def attend(*arguments: jax.Array) -> jax.Array:
            mixed.append(attend_alone(*arguments))
            return mixed[-1]

        layout = Layout(constrain=constrain, attend=attend)
        positions_BS = jnp.broadcast_to(jnp.arange(tokens_BS.shape[1]), tokens_BS.shape)
        # One layer after the other: what is shown inside of a scan is no array outside of it.
        Decoder(config, layout=layout, scan_layers=False).apply({"params": params}, tokens_BS, positions_BS)
        weights = params["layers"]
        # The embedding, then after each layer's attention and after its MLP.
        layers = [1 - jnp.mean(_cosine(residuals[2 * i], residuals[2 * i + 2])) for i in range(config.num_layers)]
        heads = [jnp.mean(_added(x, w), axis=(0, 1)) for x, w in zip(mixed, weights["wo"], strict=True)]
        rows = jnp.linalg.norm(weights["w_down"], axis=-1)
        channels = [jnp.mean(jnp.abs(x), axis=(0, 1)) for x in hidden]
        return jnp.stack(layers), jnp.stack(heads), jnp.stack(channels) * rows

    return jax.jit(forward)(params, tokens_BS)


def _cosine(left_BSE: jax.Array, right_BSE: jax.Array) -> jax.Array:
    lengths = jnp.linalg.norm(left_BSE, axis=-1) * jnp.linalg.norm(right_BSE, axis=-1)
    return jnp.sum(left_BSE * right_BSE, axis=-1) / jnp.maximum(lengths, 1e-20)


def _added(mixed_BSHD: jax.Array, wo_HDE: jax.Array) -> jax.Array:
    """[B, S, H]: the length of each head's part of the output, without that part being made."""
    gram = jnp.einsum("hde,hce->hdc", wo_HDE, wo_HDE)
    return jnp.sqrt(jnp.maximum(jnp.einsum("bshd,hdc,bshc->bsh", mixed_BSHD, gram, mixed_BSHD), 0))
