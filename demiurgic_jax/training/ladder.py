"""A ladder of sizes: settings chosen at a small one, carried to a large one by a rule, so that small runs foretell it.

Tokens per parameter stay, so with N parameters the compute C ~ N · tokens grows as N². Learning rate and batch follow
the power laws of compute that DeepSeek LLM fitted (Bi et al. 2024, arXiv:2401.02954, equation 1):

    learning rate ~ C^-0.1250 = N^-0.2500        tokens a batch ~ C^0.3271 = N^0.6542

N is counted without embeddings, as compute is there.
"""

import math
from dataclasses import replace

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.training.config import TrainConfig

LEARNING_RATE_EXPONENT, BATCH_EXPONENT = -0.1250, 0.3271


def parameters_without_embeddings(model: ModelConfig) -> int:
    tables = 1 if model.tie_embeddings else 2
    return model.num_parameters - tables * model.vocab_size * model.embed_dim


def on_ladder(config: TrainConfig, chosen_at: ModelConfig, model: ModelConfig) -> TrainConfig:
    """`config`, whose figures were chosen for the size `chosen_at`, as `model` wants it.

    The batch is the power of two times `config`'s that comes nearest to the rule, so that it divides over the mesh as
    before; steps make up the tokens, warmup keeps its share of them. UserError where the smaller batch is no whole
    number of rows.
    """
    growth = parameters_without_embeddings(model) / parameters_without_embeddings(chosen_at)
    doublings = round(2 * BATCH_EXPONENT * math.log2(growth))
    batch_size = config.batch_size * 2.0**doublings
    if batch_size < 1 or batch_size != int(batch_size):
        raise UserError(
            f"train.batch_size={config.batch_size} would be {batch_size:g} rows at the smaller size: choose it a "
            f"multiple of {2**-doublings}"
        )
    steps = max(1, round(config.steps * growth / 2.0**doublings))
    optimizer = replace(
        config.optimizer,
        learning_rate=config.optimizer.learning_rate * growth ** (2 * LEARNING_RATE_EXPONENT),
        warmup_steps=round(config.optimizer.warmup_steps * steps / config.steps),
    )
    return replace(config, batch_size=int(batch_size), steps=steps, optimizer=optimizer)
