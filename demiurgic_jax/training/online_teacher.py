"""A teacher that runs beside the student, on the same mesh and in the same step.

It reads the batch that the student reads. Its weights lie by the same rules as the student's, in the compute dtype or
in eight bits; nothing of it gets a gradient, and of its logits only one chunk exists at a time (training/losses.py).

Shape suffixes: B batch, S sequence, E embed, V vocab.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, unembedding
from demiurgic_jax.model.parameters import abstract_parameters
from demiurgic_jax.model.quantized_weight import SUMMED, Int8Weight, quantize
from demiurgic_jax.sharding.placement import put_array
from demiurgic_jax.sharding.rules import parameter_shardings, partition_spec
from demiurgic_jax.training.losses import TeacherStates

TEACHER_WEIGHTS = ("compute", "int8")


@dataclass(frozen=True)
class TeacherConfig:
    """`online`: the teacher runs in the step, and its whole distribution takes the place of stored soft targets.
    `weights`: its matrices in the compute dtype, or in eight bits (int8), a scale for each output channel."""

    online: bool = False
    weights: str = "compute"

    def __post_init__(self) -> None:
        if self.weights not in TEACHER_WEIGHTS:
            raise UserError(
                f"train.teacher.weights={self.weights!r} is unknown: choose one of {', '.join(TEACHER_WEIGHTS)}"
            )


@dataclass(frozen=True)
class TeacherModel:
    """A teacher as it was opened: `params` are host arrays in the tree of `config`."""

    config: ModelConfig
    params: Any
    tokenizer: Tokenizer

    def require_pieces(self, tokenizer: Tokenizer) -> None:
        """UserError unless it speaks the student's tokenizer, and has a row for each of its pieces."""
        if self.tokenizer.fingerprint != tokenizer.fingerprint:
            raise UserError(
                f"the online teacher's tokenizer is {self.tokenizer.fingerprint}, the student's "
                f"{tokenizer.fingerprint}: they must be one; for a student with a tokenizer of its own, set "
                "train.teacher.online=False and let the shards have the teacher's soft targets"
            )
        if tokenizer.vocab_size > self.config.vocab_size:
            raise UserError(
                f"the teacher has {self.config.vocab_size} rows of logits for the {tokenizer.vocab_size} pieces of its "
                "tokenizer: they do not belong together"
            )


@dataclass(frozen=True)
class OnlineTeacher:
    """How the teacher runs inside of a step: `states` of parameters that lie as `abstract` says."""

    decoder: Decoder
    abstract: Any

    @property
    def shardings(self) -> Any:
        return jax.tree.map(lambda leaf: leaf.sharding, self.abstract)

    def states(self, params: Any, batch: Batch, chosen: tuple[int, ...] = ()) -> tuple[TeacherStates, Any]:
        """The teacher's part of the loss of `batch`, as one device of a mesh sees it, and what comes out of its
        `chosen` layers, [len(chosen), B, S, E], if any."""
        network, layout = params["network"], self.decoder.layout
        hidden_BSE, chosen_PBSE = self.decoder.apply(
            {"params": network}, batch.tokens, batch.positions, batch.segment_ids, chosen, method="with_layers"
        )
        stored_VE = unembedding(self.decoder.config, network).astype(self.decoder.compute_dtype)
        states = TeacherStates(
            hidden_BSE,
            layout.gather(stored_VE, ("vocab", "channels")),
            layout.gather(params["real"], ("vocab",)) if "real" in params else None,
        )
        return states, chosen_PBSE

    def place(self, model: TeacherModel) -> Any:
        """Its parameters on the mesh. Each process puts only what its devices hold."""
        real, pieces = "real" in self.abstract, model.tokenizer.vocab_size
        vocabulary = self.decoder.config.vocab_size

        def rows(table: np.ndarray) -> np.ndarray:
            """One row for each of the student's; those that no piece has are never asked for."""
            kept = np.asarray(table)[:pieces]
            return np.pad(kept, ((0, vocabulary - len(kept)), (0, 0)))

        network = {**model.params, "embedding": rows(model.params["embedding"])}
        if "unembedding" in network:
            network["unembedding"] = rows(network["unembedding"])
        params = {"network": network} | ({"real": np.arange(vocabulary) < pieces} if real else {})
        return jax.tree.map(_put, self.abstract, params, is_leaf=lambda node: isinstance(node, Int8Weight))


def _put(abstract: Any, value: Any) -> Any:
    if isinstance(abstract, Int8Weight):
        summed = tuple(axis for axis, size in enumerate(abstract.scales.shape) if size < abstract.values.shape[axis])
        return Int8Weight(*map(_put, abstract, quantize(value, summed)))
    return put_array(np.asarray(value).astype(abstract.dtype), abstract.sharding)


def online_teacher(
    teacher: ModelConfig, pieces: int, config: TeacherConfig, student: Decoder, mesh: Mesh
) -> OnlineTeacher:
    """The teacher of shape `teacher`, whose tokenizer has so many `pieces`, beside `student` on `mesh`. Its logits have
    the student's rows. UserError when an axis of the mesh does not divide it."""
    sized = replace(teacher, vocab_size=student.config.vocab_size)
    dtype = student.compute_dtype
    decoder = Decoder(sized, compute_dtype=dtype, layout=student.layout)
    try:
        shardings = parameter_shardings(mesh, sized)
    except UserError as error:
        raise UserError(f"the online teacher: {error}") from error
    network: dict[str, Any] = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding),
        abstract_parameters(sized),
        shardings,
    )
    if config.weights == "int8":
        network["layers"] = _in_eight_bits(network["layers"])
    abstract: dict[str, Any] = {"network": network}
    if pieces < sized.vocab_size:
        abstract["real"] = jax.ShapeDtypeStruct(
            (sized.vocab_size,), jnp.bool_, sharding=NamedSharding(mesh, partition_spec(("vocab",)))
        )
    return OnlineTeacher(decoder, abstract)


def _in_eight_bits(layers: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    def one(weight: jax.ShapeDtypeStruct, summed: tuple[int, ...]) -> Int8Weight:
        shape = tuple(1 if axis in summed else size for axis, size in enumerate(weight.shape))
        spec = PartitionSpec(*(None if axis in summed else entry for axis, entry in enumerate(weight.sharding.spec)))
        scales = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(weight.sharding.mesh, spec))
        return Int8Weight(jax.ShapeDtypeStruct(weight.shape, jnp.int8, sharding=weight.sharding), scales)

    return {name: one(weight, SUMMED[name]) if name in SUMMED else weight for name, weight in layers.items()}
