"""The student's own samples while it trains, from the decoding engine in the same process, and the teacher's word on
them where it is asked over HTTP."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import takewhile
from typing import Any

import jax
import numpy as np

from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.data.soft_targets import SoftTargets
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.data.told_targets import ToldText
from demiurgic_jax.data.vocabulary_map import Pieces
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.sampled_tokens import sampled_tokens
from demiurgic_jax.training.config import COMPUTE_DTYPES, TrainConfig
from demiurgic_jax.training.on_policy import Judge, Sampler
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder
from experiments.stages.stage import Run
from experiments.teacher import ask_teacher, open_ledger, raw_request, teacher_url, tells_no_logprobs
from experiments.training_phases import phase_configs

ON_POLICY = "on_policy"  # the ledger's name for what is asked about the student's own samples


def check_own_samples(run: Run) -> None:
    """Before anything is paid for: can this run sample from its student?"""
    own = [phase.train.on_policy for phase in phase_configs(run.config) if phase.train.on_policy.fraction]
    if any(each.top_logprobs for each in own) and (silent := tells_no_logprobs(run.config)):
        raise UserError(f"config.train.on_policy.top_logprobs: {silent}; use train.teacher.online instead")
    if own and jax.process_count() > 1:
        raise UserError(
            "config.train.on_policy.fraction samples from the student in one process, and this run has "
            f"{jax.process_count()}: set it to 0"
        )


def expected_questions(run: Run) -> list[TeacherRequest]:
    """For a forecast: about as many questions as the steps on the student's own samples will ask the teacher, each as
    long as it can be."""
    asked = []
    for phase in phase_configs(run.config):
        own, rows = phase.train.on_policy, phase.train.batch_size
        if own.fraction and own.top_logprobs:
            ids = (0,) * (own.prompt_tokens + own.max_tokens)
            for number in range(math.ceil(own.fraction * phase.train.steps) * rows):
                # Numbered, so that each of several teachers gets its share of them.
                question = CompletionRequest(
                    prompt_tokens=ids, max_tokens=0, logprobs=own.top_logprobs, echo=True, seed=number
                )
                asked.append(raw_request("sample", question, ON_POLICY))
    return asked


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


def api_judge(run: Run, train: TrainConfig, tokenizer: Tokenizer, held: ExitStack, progress: StageProgress) -> Judge:
    """Asks the teacher for the log-probabilities of texts that it did not write. It goes through the run's ledger and
    budget as every request does, so a step that is made again after a kill costs nothing. What `held` holds, a server
    of ours, is up from the first question on."""
    pieces = Pieces(tokenizer)
    url = ""

    def judge(prompts: Sequence[Sequence[int]], samples: Sequence[Sequence[int]]) -> list[SoftTargets]:
        nonlocal url
        url = url or held.enter_context(teacher_url(run, cache_folder(), progress))
        # That a sample ends is not told, so it is judged up to its first marker; what begins with one not at all.
        texts = [list(takewhile(pieces.text, sample)) for sample in samples]
        requests = [
            _echoed(run, pieces, prompt, text, train.on_policy.top_logprobs)
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        with open_ledger(run) as ledger:
            wanted = [raw_request("sample", each, ON_POLICY) for each in requests if each is not None]
            asked, _ = ask_teacher(run, url, wanted, ledger)
            if asked.stopped or asked.failed:
                why = asked.stopped or f"{asked.failed} requests got no answer"
                raise UserError(
                    f"the student's own samples could not be judged ({why}): steps until the last checkpoint are kept, "
                    "and the same command goes on from it"
                )
            answers = [ledger.answer(request) if request is not None else None for request in requests]
        return [
            _targets(
                ToldText((answer and answer.completion.logprobs) or ()),
                np.array([*prompt, *sample], np.int32),
                len(prompt),
                _spelt(text, pieces),
                pieces,
                train.on_policy.top_logprobs,
            )
            for answer, prompt, sample, text in zip(answers, prompts, samples, texts, strict=True)
        ]

    return judge


def _echoed(run: Run, pieces: Pieces, prompt: Sequence[int], text: Sequence[int], top: int) -> CompletionRequest | None:
    """The request that has the teacher read a sample's text: in its own ids where these are the student's too."""
    if not text:
        return None
    if run.config.tokenizer.kind == "teacher":
        return CompletionRequest(prompt_tokens=(*prompt, *text), max_tokens=0, logprobs=top, echo=True)
    whole = pieces.tokenizer.decode(prompt) + _spelt(text, pieces).decode(errors="ignore")
    return CompletionRequest(prompt=whole, max_tokens=0, logprobs=top, echo=True)


def _spelt(sample: Sequence[int], pieces: Pieces) -> bytes:
    return b"".join(map(pieces.text, sample))


def _targets(told: ToldText, tokens: np.ndarray, start: int, content: bytes, pieces: Pieces, top: int) -> SoftTargets:
    """Of `tokens`, whose sample begins at `start` and spells `content`. The prompt was the teacher's to read in its own
    way, so the sample is found from the end."""
    if not told.content.endswith(content):
        # Sent as text, it lost the bytes that are none.
        content = content.decode(errors="ignore").encode()
    if not content or not told.content.endswith(content):
        return told.nothing(len(tokens))
    return told.targets(tokens, start, len(told.content) - len(content), pieces, top)
