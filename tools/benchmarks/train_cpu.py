"""Training speed on a CPU: our step beside eager PyTorch's, the same network, batch and optimizer.

    python -m tools.benchmarks.train_cpu                        all shapes, float32
    python -m tools.benchmarks.train_cpu d256 --steps 20
    python -m tools.benchmarks.train_cpu d512 --remat none --scan-layers
    python -m tools.benchmarks.train_cpu d512 --compute-dtype bfloat16    ours only: the peer stays float32

The peer is `LlamaForCausalLM` of `transformers` in float32 with torch.optim.AdamW and clipped gradients. Neither is a
dependency of this project: `pip install torch transformers` into an environment of its own that has the project too.

The contestants take turns, step by step, in one process, and so does a matrix product of 2,048³ in each library, so
that a busy machine slows all alike; medians are printed. `ratio` is our tokens/s over the peer's, `by CPU time` the
same for seconds of the processor, which other programs disturb less. `of GEMM` is the share of the faster product's
speed that a step reaches, counting 6 FLOPs a weight and token, half of attention's square, and nothing twice.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig, named_config
from demiurgic_jax.model.decoder import REMAT_POLICIES, init_params
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.training.config import COMPUTE_DTYPES, TrainConfig, make_decoder
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.optimizer import OptimizerConfig, make_optimizer
from demiurgic_jax.training.state import abstract_state, new_state
from demiurgic_jax.training.step import make_train_step
from tools.benchmarks.peer import llama

GEMM_SIZE = 2048
CHUNK_TOKENS = 128  # what a CPU's cache wants
OPTIMIZER = OptimizerConfig()


class Shape(NamedTuple):
    """A network and its batch: `rows` of `context` tokens."""

    model: ModelConfig
    rows: int
    context: int = 512

    @property
    def tokens(self) -> int:
        return self.rows * self.context

    @property
    def flops(self) -> int:
        """Matmul FLOPs that one step needs, attention's causal half only."""
        c = self.model
        embedding = 0 if c.tie_embeddings else c.vocab_size * c.embed_dim
        attention = c.num_layers * 2 * self.context * c.num_heads * c.head_dim
        return self.tokens * (6 * (c.num_parameters - embedding) + 3 * attention)


SHAPES: Mapping[str, Shape] = {
    "d256": Shape(ModelConfig(4096, 256, 6, 4, 4, 64, 704, tie_embeddings=True), rows=4),
    "d512": Shape(ModelConfig(4096, 512, 8, 8, 8, 64, 1408, tie_embeddings=True), rows=4),
    "smollm2": Shape(named_config("135m"), rows=1),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"of {', '.join(SHAPES)} (default: all)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each contestant (default: %(default)s)")
    parser.add_argument("--compute-dtype", choices=COMPUTE_DTYPES, default="float32", help="ours (default: float32)")
    parser.add_argument("--remat", choices=REMAT_POLICIES, default="dots", help="ours (default: %(default)s)")
    parser.add_argument("--scan-layers", action="store_true", help="ours in a scan instead of one after the other")
    options = parser.parse_args()
    try:
        for name in options.shapes or SHAPES:
            if name not in SHAPES:
                raise UserError(f"the shape {name!r} is unknown: choose among {', '.join(SHAPES)}")
        if options.steps < 1:
            raise UserError(f"--steps={options.steps} must be at least 1")
        torch_gemm = peer_gemm()
        print(f"{'':10}{'ours':>10}{'peer':>10}  tokens/s   ratio   by CPU time   of GEMM: ours   peer   (GFLOP/s)")
        for name in options.shapes or SHAPES:
            shape = SHAPES[name]
            contestants = {
                "ours": our_step(shape, options.compute_dtype, options.remat, options.scan_layers),
                "peer": peer_step(shape),
                "our product": our_gemm(),
                "peer product": torch_gemm,
            }
            report(name, shape, contestants, options.steps)
    except UserError as error:
        print(f"train_cpu: {error}", file=sys.stderr)
        return 2
    return 0


def our_step(shape: Shape, compute_dtype: str, remat: str, scan_layers: bool) -> Callable[[], None]:
    """The step of training/, on one device, with its state kept between calls."""
    mesh = make_mesh(MeshShape())
    config = TrainConfig(
        steps=1_000_000,
        batch_size=shape.rows,
        context=shape.context,
        compute_dtype=compute_dtype,
        remat=remat,
        scan_layers=scan_layers,
        loss=LossConfig(chunk_tokens=CHUNK_TOKENS),
    )
    decoder = make_decoder(config, shape.model, mesh)
    optimizer = make_optimizer(OPTIMIZER, config.steps)
    abstract = abstract_state(shape.model, optimizer, mesh)
    step = make_train_step(decoder, optimizer, config.loss, mesh, abstract)
    state = new_state(init_params(decoder, jax.random.key(0)), abstract, optimizer)
    ids = token_ids(shape)
    ones = np.ones((shape.rows, shape.context), np.int32)
    positions = ones.cumsum(axis=1, dtype=np.int32) - 1
    batch = jax.device_put(Batch(ids[:, :-1], ids[:, 1:], positions, ones, ones.astype(np.float32)))

    def run() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        float(metrics["loss"])

    return run


def peer_step(shape: Shape) -> Callable[[], None]:
    """The same in `transformers`, with the attention that it chooses by itself."""
    import torch

    network = llama(shape.model, use_cache=False).train()
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=OPTIMIZER.learning_rate,
        betas=(OPTIMIZER.beta1, OPTIMIZER.beta2),
        eps=OPTIMIZER.eps,
        weight_decay=OPTIMIZER.weight_decay,
    )
    ids = torch.from_numpy(token_ids(shape)).long()
    tokens, targets = ids[:, :-1].contiguous(), ids[:, 1:].flatten()

    def run() -> None:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(input_ids=tokens).logits.flatten(0, 1), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), OPTIMIZER.clip_norm)
        optimizer.step()
        loss.item()

    return run


def token_ids(shape: Shape) -> np.ndarray:
    """Random tokens and, one to the right, their targets: int32 [rows, context + 1]."""
    ids = np.random.default_rng(0).integers(shape.model.vocab_size, size=(shape.rows, shape.context + 1))
    return ids.astype(np.int32)


def our_gemm() -> Callable[[], Any]:
    matrix = jnp.ones((GEMM_SIZE, GEMM_SIZE))
    product = jax.jit(jnp.matmul)
    return lambda: product(matrix, matrix).block_until_ready()


def peer_gemm() -> Callable[[], Any]:
    """UserError where the peer is not installed."""
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the peer is missing ({error}): pip install torch transformers, into an environment of its own"
        ) from error
    matrix = torch.ones((GEMM_SIZE, GEMM_SIZE))
    return lambda: torch.mm(matrix, matrix)


def report(name: str, shape: Shape, contestants: Mapping[str, Callable[[], Any]], steps: int) -> None:
    seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    cpu_seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    for turn in range(steps + 2):
        for contestant, run in contestants.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            run()
            if turn >= 2:  # the first compiles, the second still finds memory
                seconds[contestant].append(time.perf_counter() - began)
                cpu_seconds[contestant].append(time.process_time() - cpu_began)
    median = {contestant: statistics.median(values) for contestant, values in seconds.items()}
    cpu = {contestant: statistics.median(values) for contestant, values in cpu_seconds.items()}
    peak = 2 * GEMM_SIZE**3 / min(median["our product"], median["peer product"])
    share = {contestant: shape.flops / median[contestant] / peak for contestant in ("ours", "peer")}
    print(
        f"{name:10}{shape.tokens / median['ours']:10,.0f}{shape.tokens / median['peer']:10,.0f}"
        f"{median['peer'] / median['ours']:18.2f}{cpu['peer'] / cpu['ours']:14.2f}"
        f"{share['ours']:16.0%}{share['peer']:7.0%}{peak / 1e9:14.0f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
