"""The one jitted step, and its forward half for held-out evaluation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.decoder import Decoder, unembedding
from demiurgic_jax.sharding.rules import batch_sharding, replicated
from demiurgic_jax.training.losses import LossConfig, LossSums, next_token_loss
from demiurgic_jax.training.state import TrainState

Metrics = dict[str, jax.Array]


def loss_sums(decoder: Decoder, params: Any, batch: Batch, config: LossConfig) -> LossSums:
    """Forward pass and losses of one batch."""
    hidden_BSE, _ = decoder.apply({"params": params}, batch.tokens, batch.positions, batch.segment_ids)
    matrix_VE = unembedding(decoder.config, params).astype(decoder.compute_dtype)
    return next_token_loss(hidden_BSE, matrix_VE, batch, config)


def means(sums: LossSums) -> Metrics:
    """Sums over tokens to means over loss weights (`kl`: over those that have a teacher)."""
    weight = jnp.maximum(sums.weight, 1e-9)
    return {
        "loss": sums.loss / weight,
        "cross_entropy": sums.cross_entropy / weight,
        "kl": sums.kl / jnp.maximum(sums.teacher_weight, 1e-9),
        "z_loss": sums.z_loss / weight,
        "accuracy": sums.correct / weight,
        "loss_tokens": sums.weight,
    }


def _micro_batches(batch: Batch, count: int) -> Batch:
    """[B, ...] to [count, B / count, ...]. Rows are dealt like cards, so that every device that holds
    rows of the batch holds rows of each micro-batch."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1), batch)


def make_train_step(
    decoder: Decoder,
    optimizer: optax.GradientTransformation,
    loss: LossConfig,
    mesh: Mesh,
    abstract: TrainState,
    grad_accum_steps: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Jitted (state, batch) → (state, metrics); the state is donated.

    With `grad_accum_steps` > 1 the batch is taken in as many parts. Gradients of the summed loss are
    added up and divided once by the whole batch's weight, so uneven masks weigh as in one large batch.
    """

    def gradients(params: Any, batch: Batch) -> tuple[Any, LossSums]:
        def objective(params: Any) -> tuple[jax.Array, LossSums]:
            sums = loss_sums(decoder, params, batch, loss)
            return sums.loss, sums

        return jax.grad(objective, has_aux=True)(params)

    def accumulated(params: Any, batch: Batch) -> tuple[Any, LossSums]:
        def add(carry: Any, part: Batch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, carry, gradients(params, part)), None

        parts = _micro_batches(batch, grad_accum_steps)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(gradients, params, _first(parts)))
        return jax.lax.scan(add, zeros, parts)[0]

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        compute = gradients if grad_accum_steps == 1 else accumulated
        grads, sums = compute(state.params, batch)
        weight = jnp.maximum(sums.weight, 1e-9)
        grads = jax.tree.map(lambda g: g / weight, grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = means(sums) | {"grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
        return TrainState(state.step + 1, params, opt_state), metrics

    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def _first(parts: Batch) -> Batch:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), parts)


def make_eval_step(decoder: Decoder, loss: LossConfig, mesh: Mesh, abstract: TrainState) -> Callable[..., LossSums]:
    """Jitted (params, batch) → sums; add them over batches, then take `means`."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract.params)
    return jax.jit(
        lambda params, batch: loss_sums(decoder, params, batch, loss),
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=replicated(mesh),
    )


def require_divisible(batch_size: int, row_length: int, grad_accum_steps: int, mesh: Mesh) -> None:
    """UserError unless the batch splits evenly over micro-batches and the mesh."""
    rows = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % (rows * grad_accum_steps):
        raise UserError(
            f"train.batch_size={batch_size} does not split into grad_accum_steps={grad_accum_steps} × "
            f"data·fsdp={rows} equal parts: make it a multiple of {rows * grad_accum_steps}"
        )
    if row_length % mesh.shape["context"]:
        raise UserError(
            f"train.context={row_length} is no multiple of the mesh's context={mesh.shape['context']} devices"
        )
