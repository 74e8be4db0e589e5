"""The student's own samples while it trains, from the decoding engine in the same process."""

from collections.abc import Sequence
from typing import Any

import jax

from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.sampled_tokens import sampled_tokens
from demiurgic_jax.training.config import COMPUTE_DTYPES, TrainConfig
from demiurgic_jax.training.on_policy import Sampler
from experiments.stages.stage import Run
from experiments.training_phases import phase_configs


def check_own_samples(run: Run) -> None:
    """Before anything is paid for: can this run sample from its student?"""
    if any(phase.train.on_policy.fraction for phase in phase_configs(run.config)) and jax.process_count() > 1:
        raise UserError(
            "config.train.on_policy.fraction samples from the student in one process, and this run has "
            f"{jax.process_count()}: set it to 0"
        )


def own_sampler(run: Run, train: TrainConfig, model: ModelConfig, tokenizer: Tokenizer) -> Sampler:
    """What a phase samples with: so many at once as config.teacher.slots says, in its compute dtype."""

    def sample(params: Any, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        return sampled_tokens(
            model,
            jax.device_get(params),
            tokenizer,
            prompts,
            seed=seed,
            max_tokens=train.on_policy.max_tokens,
            temperature=train.on_policy.temperature,
            slots=run.config.teacher.slots,
            max_context=min(train.context, model.max_context),
            compute_dtype=COMPUTE_DTYPES[train.compute_dtype],
        )

    return sample
