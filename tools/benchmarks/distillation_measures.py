"""How a student of tools.benchmarks.distillation is measured: on held-out rows, whatever it was trained with, in
float32, against the teacher's whole distribution where the two share a tokenizer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.interop.imported import ImportedModel
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder, unembedding
from demiurgic_jax.training.losses import LossConfig, TeacherStates
from demiurgic_jax.training.step import loss_sums

ROWS = 4  # measured at once
MEASURED = LossConfig(chunk_tokens=128)


@dataclass(frozen=True)
class HeldOut:
    """Rows of a held-out set, what the teacher makes of them (None: the rows have its stored targets, or there is no
    teacher to compare with), and the bytes of the text that is predicted."""

    name: str
    batches: Sequence[Batch]
    states: Sequence[TeacherStates | None]
    target_bytes: int
    fields: Sequence[str] = field(default=("cross_entropy",))

    def measure(self, config: ModelConfig, params: Any) -> dict[str, float]:
        """`cross_entropy` and `kl` in nats per token, `bits_per_byte`: those of `fields`, as NAME/FIELD."""
        decoder = Decoder(config)

        @jax.jit
        def sums(params: Any, batch: Batch, states: TeacherStates | None) -> Any:
            return loss_sums(decoder, params, batch, MEASURED, teacher=states)

        params = jax.tree.map(jnp.asarray, params)
        parts = [jax.device_get(sums(params, *pair)) for pair in zip(self.batches, self.states, strict=True)]
        total = jax.tree.map(lambda *values: float(np.sum(values, dtype=np.float64)), *parts)
        values = {
            "cross_entropy": total.cross_entropy / total.weight,
            "kl": total.kl / max(total.teacher_weight, 1.0),
            "bits_per_byte": total.cross_entropy / np.log(2) / self.target_bytes,
        }
        return {f"{self.name}/{name}": values[name] for name in self.fields}

    def describe(self) -> Mapping[str, int]:
        """How much it is."""
        return {"tokens": int(sum(batch.loss_weights.sum() for batch in self.batches)), "bytes": self.target_bytes}


def held_out(
    name: str,
    shards: ShardSet,
    tokenizer: Tokenizer,
    row_length: int,
    *,
    teacher: ImportedModel | None = None,
    soft_targets: int = 0,
    fields: Sequence[str] = ("cross_entropy",),
) -> HeldOut:
    """The rows of `shards`; with a `teacher` of the same tokenizer, what it makes of them is computed here, once."""
    rows = Loader(shards, batch_size=1, row_length=row_length, seed=0, soft_targets=soft_targets)
    batches = list(rows.all_rows(ROWS))
    states: list[TeacherStates | None] = [None] * len(batches)
    if teacher is not None:
        states = list(_states(teacher, tokenizer.vocab_size, batches))
    lengths = np.array([len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)])
    target_bytes = sum(int(lengths[batch.targets[batch.loss_weights > 0]].sum()) for batch in batches)
    return HeldOut(name, batches, states, target_bytes, fields)


def _states(teacher: ImportedModel, pieces: int, batches: Sequence[Batch]) -> Iterator[TeacherStates]:
    """What the teacher makes of each batch; rows of its logits that no piece has are left out."""
    decoder = Decoder(teacher.config)
    params = jax.tree.map(jnp.asarray, teacher.params)
    real = jnp.arange(teacher.config.vocab_size) < pieces

    @jax.jit
    def hidden(params: Any, batch: Batch) -> jax.Array:
        return decoder.apply({"params": params}, batch.tokens, batch.positions, batch.segment_ids)[0]

    for batch in batches:
        yield TeacherStates(hidden(params, batch), unembedding(teacher.config, params), real)
