"""Batches of the student's own samples, on which it learns what the teacher would have said.

Generalised knowledge distillation (Agarwal et al. 2024, arXiv:2306.13649): with the chance λ a step's texts are not the
data's but the student's own, so that it is taught where it goes, mistakes included. Here all steps of a run know
beforehand which they are: it follows from (seed, step) alone, and the samples from (parameters, seed, step), so a run
that was killed goes on with the same bits.

The prompts are the beginnings of the documents of that step's batch: what a document's loss mask leaves out, or, where
all of it is learnt, its first half. Nothing else of the batch is used.

Shape suffixes: B batch, S sequence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.order import hashed
from demiurgic_jax.data.rows import Piece, batch_of
from demiurgic_jax.data.soft_targets import MAX_ENTRIES, SoftTargets
from demiurgic_jax.errors import UserError
from demiurgic_jax.training.divergences import DIVERGENCES
from demiurgic_jax.training.losses import LossConfig

# Apart from the seeds of data order.
_CHOICE, _SAMPLES = 0x0E_9011C4, 0x0E_5A3B1E

# (parameters on their devices, prompts as token ids, seed) → the tokens that follow each, a stop token included.
Sampler = Callable[[Any, Sequence[Sequence[int]], int], list[list[int]]]
# (prompts, samples) → soft targets of each prompt with its sample behind it, where the teacher is not in the step.
Judge = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], list[SoftTargets]]


@dataclass(frozen=True)
class OnPolicyConfig:
    """`fraction` is λ, 0 for none. A prompt has at most `prompt_tokens` tokens, its sample `max_tokens`, drawn at
    `temperature`. The samples have their own loss, the teacher's alone: `divergence`, or that of the run if empty.
    With `top_logprobs` the teacher judges them from behind its API, which tells so many entries a token."""

    fraction: float = 0.0
    prompt_tokens: int = 128
    max_tokens: int = 128
    temperature: float = 1.0
    divergence: str = ""
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.fraction <= 1.0:
            raise UserError(f"train.on_policy.fraction={self.fraction} is outside 0..1")
        for name in ("prompt_tokens", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"train.on_policy.{name}={getattr(self, name)} must be at least 1")
        if not 0 <= self.top_logprobs <= MAX_ENTRIES:
            raise UserError(f"train.on_policy.top_logprobs={self.top_logprobs} is outside 0..{MAX_ENTRIES}")
        if not 0.0 <= self.temperature <= 100.0:
            raise UserError(f"train.on_policy.temperature={self.temperature} is outside 0..100")
        if self.divergence and self.divergence not in DIVERGENCES:
            raise UserError(
                f"train.on_policy.divergence={self.divergence!r} is unknown: choose one of {', '.join(DIVERGENCES)}, "
                "or leave it empty"
            )

    def loss(self, config: LossConfig) -> LossConfig:
        """The run's loss for a batch of samples: the student's own tokens are nothing to imitate, so α is 1."""
        fields: dict[str, Any] = {"distill_weight": 1.0, "final_distill_weight": 1.0}
        if self.divergence:
            fields["divergence"] = self.divergence
        return LossConfig(**{**config.__dict__, **fields})


class Samples(NamedTuple):
    """A batch of samples, with soft targets where a judge gave them, and what to say of it."""

    batch: Batch
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class OnPolicy:
    """Which steps of a run learn from samples, and these samples. `first` is the step that the phase begins after.
    `judge` is asked where the teacher is not in the step."""

    config: OnPolicyConfig
    sample: Sampler
    seed: int
    first: int
    judge: Judge | None = None

    def is_due(self, step: int) -> bool:
        """Of the update after `step` updates."""
        return bool(self._due(np.array([step]))[0])

    def share(self, done: int) -> float:
        """Of the phase's steps up to the `done`-th of the run: how many were on-policy."""
        return float(np.mean(self._due(np.arange(self.first, done)))) if done > self.first else 0.0

    def samples(self, params: Any, step: int, batch: Batch) -> Samples | None:
        """The student's own texts in the place of `batch`; None where none of its documents has a prompt that fits, or
        the judge could say nothing of any sample."""
        B, S = batch.tokens.shape
        asked = [prompts_of(batch, row, self.config) for row in range(B)]
        prompts = [prompt for row in asked for prompt in row]
        if not prompts:
            return None
        seed = int(hashed(self.seed, _SAMPLES, step)[0])
        answers = self.sample(params, prompts, seed)
        told = self.judge(prompts, answers) if self.judge is not None else [None] * len(prompts)
        pieces = map(_piece, prompts, answers, told)
        rows = [[next(pieces) for _ in row] for row in asked]
        lengths = [len(answer) for answer in answers]
        metrics = {
            "on_policy_samples": float(len(lengths)),
            "sampled_length": float(np.mean(lengths)),
            "sampled_to_the_end": float(np.mean(np.array(lengths) < self.config.max_tokens)),
        }
        own = batch_of(rows, B, S, self.config.top_logprobs)
        if self.judge is not None:
            judged = float(own.loss_weights.sum())
            if not judged:
                return None
            metrics["on_policy_judged"] = judged / sum(lengths)
        return Samples(own, metrics)

    def _due(self, steps: np.ndarray) -> np.ndarray:
        draws = hashed(self.seed, _CHOICE, steps.astype(np.int64)) >> np.uint64(11)
        return draws.astype(np.float64) / (1 << 53) < self.config.fraction


def prompts_of(batch: Batch, row: int, config: OnPolicyConfig) -> list[list[int]]:
    """The beginnings of the row's documents, as many as fit into a row together with their samples."""
    segments, tokens, weights = batch.segment_ids[row], batch.tokens[row], batch.loss_weights[row]
    prompts, room = [], len(tokens)
    for segment in range(1, int(segments.max(initial=0)) + 1):
        at = np.flatnonzero(segments == segment)
        # Position s has the weight of the token that follows it, so the one at the first weight is still the prompt.
        learnt = np.flatnonzero(weights[at])
        if not len(learnt):
            continue
        size = int(learnt[0]) + 1 if learnt[0] else min(config.prompt_tokens, len(at) // 2)
        if 1 <= size <= config.prompt_tokens and size + config.max_tokens <= room:
            prompts.append(tokens[at[:size]].tolist())
            room -= size + config.max_tokens
    return prompts


def _piece(prompt: Sequence[int], answer: Sequence[int], told: SoftTargets | None) -> Piece:
    """A document of which only the sampled tokens are learnt; of those that somebody judged, `told`, only they."""
    tokens = np.array([*prompt, *answer], np.int32)
    learnt = np.arange(1, len(tokens)) >= len(prompt)
    soft = None
    if told is not None:
        soft = told.slice(0, len(tokens) - 1)
        learnt &= soft.counts > 0
    return Piece(tokens, None, learnt.astype(np.float32), soft)
