"""What a run, or one phase of it, is told."""

from dataclasses import dataclass, field

import jax.numpy as jnp
from jax.sharding import Mesh

from demiurgic_jax.data.fim import FimConfig
from demiurgic_jax.data.mixture import MixtureConfig
from demiurgic_jax.data.packing import require_packing
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.attention_kernels import SPLASH_BLOCK
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.sharding.layout import layout_on
from demiurgic_jax.sharding.mesh import MeshShape
from demiurgic_jax.training.hidden_matching import HiddenConfig
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.metrics import MetricsConfig
from demiurgic_jax.training.on_policy import OnPolicyConfig
from demiurgic_jax.training.online_teacher import TeacherConfig
from demiurgic_jax.training.optimizer import OptimizerConfig
from demiurgic_jax.training.products import QUANTIZED_MATMULS, weight_product
from demiurgic_jax.training.spikes import SpikeConfig

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclass(frozen=True)
class TrainConfig:
    """One run, or one phase of it. `batch_size` counts rows of `context` tokens over all processes; `soft_targets` is
    the number K of teacher entries read per token, 0 to train on text alone. `loader_workers` processes read ahead,
    0: threads. The caller opens the sets of `mixture`.

    `quantized_matmuls` (int8 or fp8) is for the products with the layers' weights, forward and backward; held-out
    figures are of the weights as they are. `gathered_once` is the decoder's, `splash_block` that of TPUs' attention.

    Of the checkpoints the `keep_checkpoints` newest are kept, those of every `keep_every`-th step, and the `keep_best`
    with the lowest `keep_best_metric`. With `hang_seconds` > 0 a run without progress for as long ends itself.
    """

    steps: int
    batch_size: int
    context: int
    grad_accum_steps: int = 1
    seed: int = 0
    soft_targets: int = 0
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    packing: str = "best_fit"
    fim: FimConfig = field(default_factory=FimConfig)
    loader_workers: int = 0
    compute_dtype: str = "float32"
    quantized_matmuls: str = "none"
    remat: str = "full"
    gathered_once: int = 1
    splash_block: int = SPLASH_BLOCK
    scan_layers: bool = True
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    keep_every: int = 0
    keep_best: int = 0
    keep_best_metric: str = "heldout/cross_entropy"
    eval_every: int = 1000
    hang_seconds: float = 0.0
    mesh: MeshShape = field(default_factory=MeshShape)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    hidden: HiddenConfig = field(default_factory=HiddenConfig)
    on_policy: OnPolicyConfig = field(default_factory=OnPolicyConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    spike: SpikeConfig = field(default_factory=SpikeConfig)

    def __post_init__(self) -> None:
        if self.compute_dtype not in COMPUTE_DTYPES:
            raise UserError(
                f"train.compute_dtype={self.compute_dtype!r} is unknown: choose one of {', '.join(COMPUTE_DTYPES)}"
            )
        if self.quantized_matmuls not in QUANTIZED_MATMULS:
            raise UserError(
                f"train.quantized_matmuls={self.quantized_matmuls!r} is unknown: choose one of "
                f"{', '.join(QUANTIZED_MATMULS)}"
            )
        require_packing(self.packing)
        for name in ("steps", "batch_size", "context", "grad_accum_steps", "checkpoint_every", "eval_every"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name}={getattr(self, name)} must be at least 1")
        for name in ("loader_workers", "gathered_once"):
            if getattr(self, name) < 0:
                raise UserError(f"train.{name}={getattr(self, name)} must be at least 0")
        if self.splash_block < 128 or self.splash_block & (self.splash_block - 1):
            raise UserError(f"train.splash_block={self.splash_block} must be a power of two from 128 on")
        if self.keep_checkpoints < 1:
            raise UserError(f"train.keep_checkpoints={self.keep_checkpoints} must be at least 1, to resume from")
        for name in ("keep_every", "keep_best", "hang_seconds"):
            if getattr(self, name) < 0:
                raise UserError(f"train.{name}={getattr(self, name)} is below 0; 0 switches it off")
        if self.keep_best and self.checkpoint_every % self.eval_every:
            raise UserError(
                f"train.keep_best={self.keep_best} needs held-out figures of every checkpoint: make "
                f"train.checkpoint_every={self.checkpoint_every} a multiple of train.eval_every={self.eval_every}"
            )
        if self.soft_targets < 0:
            raise UserError(f"train.soft_targets={self.soft_targets} is below 0; 0 reads none")
        if self.teacher.online and self.soft_targets:
            raise UserError(
                f"train.teacher.online and train.soft_targets={self.soft_targets} are two teachers of one token: set "
                "train.soft_targets=0, or train.teacher.online=False"
            )
        if self.hidden.is_used and not self.teacher.online:
            raise UserError(
                f"train.hidden.weight={self.hidden.weight} compares hidden states with those of a teacher in the step: "
                "set train.teacher.online=True"
            )
        own = self.on_policy
        if own.fraction and self.teacher.online == bool(own.top_logprobs):
            raise UserError(
                f"train.on_policy.fraction={own.fraction} needs one teacher that judges the student's own samples: in "
                "the step (train.teacher.online=True), or by what its API tells of each token "
                "(train.on_policy.top_logprobs=20)"
            )
        if own.fraction and own.max_tokens >= self.context:
            raise UserError(
                f"train.on_policy.max_tokens={own.max_tokens} leaves no room for a prompt in "
                f"train.context={self.context}: make it smaller"
            )
        if self.loss.uses_teacher and not (self.soft_targets or self.teacher.online):
            raise UserError(
                f"train.loss.distill_weight={self.loss.distill_weight} needs soft targets: set train.soft_targets, or "
                "train.teacher.online"
            )


def make_decoder(config: TrainConfig, model: ModelConfig, mesh: Mesh) -> Decoder:
    """The network as `config` trains it on `mesh`."""
    return Decoder(
        model,
        compute_dtype=COMPUTE_DTYPES[config.compute_dtype],
        remat=config.remat,
        scan_layers=config.scan_layers,
        gathered_once=config.gathered_once,
        layout=layout_on(mesh, config.splash_block),
        project=weight_product(config.quantized_matmuls, mesh.devices.flat[0].platform),
    )
