"""Memory and cycles of the loss at the end of a 7B network, in chunks and dense, on a TPU v5p that is not here.

    python -m tools.benchmarks.loss_memory [--vocabularies=32000,128256] [--chunks=512,1024] [--soft-targets=32]

Four rows of 4,096 tokens and 4,096 channels in bfloat16, forward and backward, compiled ahead of time (package
`libtpu`) for one chip; nothing is run. The arguments (hidden states, unembedding, batch) and the results (the gradients
of the first two) are in the peak, and the same for all. Cycles are the compiler's estimate.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.planning.ahead_of_time import missing_compiler, prepare_environment, target_devices
from demiurgic_jax.planning.hardware import find_hardware
from demiurgic_jax.planning.hlo import count, parse
from demiurgic_jax.training.losses import LossConfig, LossSums, chunk_sums, next_token_loss

ROWS, TOKENS, CHANNELS = 4, 4096, 4096
Loss = Callable[[jax.Array, jax.Array, Batch, LossConfig], LossSums]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", default="32000,128256", help="sizes (default: %(default)s)")
    parser.add_argument("--chunks", default="128,512,1024,2048", help="tokens of a row at once (default: %(default)s)")
    parser.add_argument("--soft-targets", type=int, default=0, help="teacher's entries a token (default: %(default)s)")
    options = parser.parse_args()
    hardware = find_hardware("v5p-8")
    if package := missing_compiler(hardware):
        print(f"loss_memory: {package} is not installed, and it is what compiles for a TPU", file=sys.stderr)
        return 2
    prepare_environment()
    device = target_devices(hardware)[0]
    print(f"{'vocabulary':>10}  {'loss':>12}  {'peak GB':>8}  {'matmul T':>8}  {'cycles':>9}")
    for vocabulary in map(int, options.vocabularies.split(",")):
        contestants = {f"chunks {size}": (next_token_loss, int(size)) for size in options.chunks.split(",")}
        for name, (loss, chunk) in (contestants | {"dense": (dense_loss, TOKENS)}).items():
            compiled = compile_loss(loss, chunk, vocabulary, options.soft_targets, device)
            counts = count(parse(compiled.as_text()))
            peak, flops = compiled.memory_analysis().peak_memory_in_bytes / 1e9, counts.matmul_flops / 1e12
            print(
                f"{vocabulary:>10,}  {name:>12}  {peak:>8.2f}  {flops:>8.2f}  {counts.estimated_cycles:>9.2e}",
                flush=True,
            )
    return 0


def dense_loss(hidden_BSE: jax.Array, unembedding_VE: jax.Array, batch: Batch, config: LossConfig) -> LossSums:
    """The same sums from logits of the whole batch, with JAX's own backward pass."""
    logits_BSV = jnp.einsum("bse,ve->bsv", hidden_BSE, unembedding_VE, preferred_element_type=jnp.float32)
    return chunk_sums(logits_BSV, batch, config)


def compile_loss(loss: Loss, chunk_tokens: int, vocabulary: int, soft_targets: int, device: jax.Device) -> Any:
    """Value and gradients for hidden states and unembedding, as a program for `device`."""
    config = LossConfig(0.5 if soft_targets else 0.0, z_loss=1e-4, chunk_tokens=chunk_tokens)
    here = SingleDeviceSharding(device)

    def array(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=here)

    ids, weights = array(jnp.int32, ROWS, TOKENS), array(jnp.float32, ROWS, TOKENS)
    batch = Batch(ids, ids, ids, ids, weights)
    if soft_targets:
        shape = (ROWS, TOKENS, soft_targets)
        batch = batch._replace(teacher_ids=array(jnp.int32, *shape), teacher_logprobs=array(jnp.float32, *shape))

    def objective(hidden_BSE: jax.Array, unembedding_VE: jax.Array, batch: Batch) -> tuple[jax.Array, LossSums]:
        sums = loss(hidden_BSE, unembedding_VE, batch, config)
        return sums.loss, sums

    both = array(jnp.bfloat16, ROWS, TOKENS, CHANNELS), array(jnp.bfloat16, vocabulary, CHANNELS)
    gradient = jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True))
    return gradient.trace(*both, batch).lower(lowering_platforms=("tpu",)).compile()


if __name__ == "__main__":
    sys.exit(main())
