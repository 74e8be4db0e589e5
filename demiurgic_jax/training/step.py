"""The one jitted step, and its forward half for held-out evaluation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.decoder import Decoder, alone_in_backward, unembedding
from demiurgic_jax.model.layout import Layout
from demiurgic_jax.sharding.compiler_options import compiler_options
from demiurgic_jax.sharding.layout import MANUAL_AXES, finish_gradients, per_device
from demiurgic_jax.sharding.rules import batch_sharding, replicated
from demiurgic_jax.training.blending import Schedule
from demiurgic_jax.training.hidden_matching import HiddenMatching, Projection, Trained
from demiurgic_jax.training.losses import Blend, LossConfig, LossSums, TeacherStates, next_token_loss
from demiurgic_jax.training.online_teacher import OnlineTeacher
from demiurgic_jax.training.state import PROJECTION_AXES, TrainState

Metrics = dict[str, jax.Array]


def loss_sums(
    decoder: Decoder,
    params: Any,
    batch: Batch,
    config: LossConfig,
    blend: Blend | None = None,
    teacher: TeacherStates | None = None,
) -> LossSums:
    """Forward pass and losses of one batch, of which each device of a mesh has its part (sharding/layout.py)."""
    hidden_BSE, _ = decoder.apply({"params": params}, batch.tokens, batch.positions, batch.segment_ids)
    return _output_loss(decoder, params, hidden_BSE, batch, config, blend, teacher)


def matched_sums(
    decoder: Decoder,
    trained: Trained,
    batch: Batch,
    config: LossConfig,
    blend: Blend | None,
    teacher: TeacherStates,
    teacher_PBST: jax.Array,
    matching: HiddenMatching,
    weight: jax.Array,
) -> LossSums:
    """As `loss_sums`, and `weight` times the distance between hidden states in the loss."""
    params = trained.student
    hidden_BSE, student_PBSE = decoder.apply(
        {"params": params},
        batch.tokens,
        batch.positions,
        batch.segment_ids,
        matching.student_layers,
        method="with_layers",
    )
    sums = _output_loss(decoder, params, hidden_BSE, batch, config, blend, teacher)
    projection = decoder.layout.gather(trained.projection, PROJECTION_AXES) if matching.projects else ()
    distance = matching.distance(student_PBSE, teacher_PBST, batch.loss_weights, projection)
    return sums._replace(loss=sums.loss + weight * distance, hidden=distance)


def _output_loss(
    decoder: Decoder,
    params: Any,
    hidden_BSE: jax.Array,
    batch: Batch,
    config: LossConfig,
    blend: Blend | None,
    teacher: TeacherStates | None,
) -> LossSums:
    stored_VE = unembedding(decoder.config, params).astype(decoder.compute_dtype)
    hidden_BSE, stored_VE = alone_in_backward((hidden_BSE, stored_VE))
    return hidden_loss(decoder.layout, hidden_BSE, stored_VE, batch, config, blend, teacher)


def hidden_loss(
    layout: Layout,
    hidden_BSE: jax.Array,
    stored_VE: jax.Array,
    batch: Batch,
    config: LossConfig,
    blend: Blend | None = None,
    teacher: TeacherStates | None = None,
) -> LossSums:
    """Losses from hidden states and the part of the unembedding that a device stores."""
    unembedding_VE = layout.gather(stored_VE, ("vocab", "channels"))

    def rows(ids: jax.Array) -> jax.Array:
        return layout.vocabulary_rows(ids, unembedding_VE.shape[0])

    batch = batch._replace(targets=rows(batch.targets), teacher_ids=jax.tree.map(rows, batch.teacher_ids))
    return next_token_loss(hidden_BSE, unembedding_VE, batch, config, layout.vocabulary, blend, teacher)


def means(sums: LossSums) -> Metrics:
    """Sums over tokens to means over loss weights (`kl`, `divergence`: over those that have a teacher)."""
    weight, teacher_weight = jnp.maximum(sums.weight, 1e-9), jnp.maximum(sums.teacher_weight, 1e-9)
    return {
        "loss": sums.loss / weight,
        "cross_entropy": sums.cross_entropy / weight,
        "kl": sums.kl / teacher_weight,
        "divergence": sums.divergence / teacher_weight,
        "z_loss": sums.z_loss / weight,
        "accuracy": sums.correct / weight,
        "loss_tokens": sums.weight,
    }


def _micro_batches(batch: Batch, count: int) -> Batch:
    """[B, ...] to [count, B / count, ...]."""
    return jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), batch)


def make_gradients(
    decoder: Decoder,
    loss: LossConfig,
    mesh: Mesh,
    abstract: TrainState,
    grad_accum_steps: int = 1,
    teacher: OnlineTeacher | None = None,
    matching: HiddenMatching | None = None,
) -> Callable[[Any, Batch, Any, Any], tuple[Any, LossSums]]:
    """(params, batch, blend, the teacher's params) → gradients of the summed loss, float32, laid out like the
    parameters, and the sums. Without a blend the loss config's α and T hold, without a teacher's params there is none.
    With a `matching` the params are `Trained`, and with the blend comes the weight of the hidden states.

    With `grad_accum_steps` > 1 each device takes its rows in as many parts and adds the gradients up.
    """

    def gradients(params: Any, batch: Batch, blend: Any, teacher_params: Any) -> tuple[Any, LossSums]:
        # Before the student, and outside of what is differentiated: of the teacher nothing waits for a backward pass.
        states, chosen = None, None
        if teacher is not None:
            states, chosen = teacher.states(teacher_params, batch, matching.teacher_layers if matching else ())

        def objective(params: Any) -> tuple[jax.Array, LossSums]:
            if matching is None or states is None or chosen is None:
                sums = loss_sums(decoder, params, batch, loss, blend, states)
            else:
                sums = matched_sums(decoder, params, batch, loss, blend[0], states, chosen, matching, blend[1])
            return sums.loss, sums

        return jax.grad(objective, has_aux=True)(params)

    def accumulated(params: Any, batch: Batch, blend: Any, teacher_params: Any) -> tuple[Any, LossSums]:
        def add(carry: Any, part: Batch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, carry, gradients(params, part, blend, teacher_params)), None

        parts = _micro_batches(batch, grad_accum_steps)
        shapes = jax.eval_shape(gradients, params, _first(parts), blend, teacher_params)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.scan(add, zeros, parts)[0]

    compute = gradients if grad_accum_steps == 1 else accumulated
    if mesh.size == 1:
        return compute
    specs = jax.tree.map(lambda leaf: leaf.sharding.spec, _trained(abstract, matching))
    whole = replicated(mesh).spec
    teacher_specs = whole if teacher is None else jax.tree.map(lambda sharding: sharding.spec, teacher.shardings)

    def on_one_device(params: Any, batch: Batch, blend: Any, teacher_params: Any) -> tuple[Any, LossSums]:
        grads, sums = compute(params, batch, blend, teacher_params)
        return finish_gradients(mesh, grads, specs), jax.lax.psum(sums, MANUAL_AXES)

    return per_device(mesh, on_one_device, (specs, batch_sharding(mesh).spec, whole, teacher_specs), (specs, whole))


def _trained(state: TrainState, matching: HiddenMatching | None) -> Any:
    """What the loss is differentiated for, of a state or of an abstract one."""
    if matching is None:
        return state.params
    return Trained(state.params, state.projection.weights if matching.projects else ())


def make_train_step(
    decoder: Decoder,
    optimizer: optax.GradientTransformation,
    loss: LossConfig,
    mesh: Mesh,
    abstract: TrainState,
    grad_accum_steps: int = 1,
    *,
    schedule: Schedule | None = None,
    teacher: OnlineTeacher | None = None,
    matching: HiddenMatching | None = None,
    hidden_weight: Callable[[jax.Array], jax.Array] | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Jitted (state, batch) → (state, metrics), with a teacher (state, batch, its params); the state is donated.

    Gradients of the summed loss are divided once by the whole batch's weight, so that uneven masks weigh as in one
    large batch, whatever the number of devices and of parts. `schedule` moves α and T. With a `matching` the hidden
    states have the weight `hidden_weight(step)`.
    """
    compute = make_gradients(decoder, loss, mesh, abstract, grad_accum_steps, teacher, matching)

    def step(state: TrainState, batch: Batch, *teacher_params: Any) -> tuple[TrainState, Metrics]:
        blend = schedule(state.step) if schedule is not None else None
        share = hidden_weight(state.step) if matching is not None and hidden_weight is not None else None
        grads, sums = compute(
            _trained(state, matching),
            batch,
            blend if share is None else (blend, share),
            teacher_params[0] if teacher_params else None,
        )
        weight = jnp.maximum(sums.weight, 1e-9)
        grads = jax.tree.map(lambda g: g / weight, grads)
        said, projection = blend._asdict() if blend is not None else {}, state.projection
        if matching is not None and share is not None:
            grads, d_projection = grads
            said |= {"hidden": sums.hidden / weight, "hidden_weight": share}
            if matching.projects:
                moved, moments = matching.optimizer.update(d_projection, projection.moments, projection.weights)
                projection = Projection(optax.apply_updates(projection.weights, moved), moments)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = means(sums) | {"grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
        return TrainState(state.step + 1, params, opt_state, projection), metrics | said

    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh), *([teacher.shardings] if teacher is not None else [])),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
        compiler_options=compiler_options(mesh),
    )


def _first(parts: Batch) -> Batch:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), parts)


def make_eval_step(
    decoder: Decoder, loss: LossConfig, mesh: Mesh, abstract: TrainState, teacher: OnlineTeacher | None = None
) -> Callable[..., LossSums]:
    """Jitted (params, batch) → sums, with a teacher (params, batch, its params); add them over batches, then take
    `means`."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract.params)
    in_shardings = (shardings, batch_sharding(mesh), *([teacher.shardings] if teacher is not None else []))

    def sums(params: Any, batch: Batch, *teacher_params: Any) -> LossSums:
        states = teacher.states(teacher_params[0], batch)[0] if teacher is not None else None
        return loss_sums(decoder, params, batch, loss, teacher=states)

    if mesh.size > 1:
        alone = sums
        sums = per_device(
            mesh,
            lambda *arguments: jax.lax.psum(alone(*arguments), MANUAL_AXES),
            jax.tree.map(lambda sharding: sharding.spec, in_shardings),
            replicated(mesh).spec,
        )
    return jax.jit(sums, in_shardings=in_shardings, out_shardings=replicated(mesh))


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
