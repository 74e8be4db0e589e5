"""Soft targets of answers that came with the likeliest tokens at each place, as config.teach.logprobs asks for."""

from dataclasses import replace

import numpy as np

from demiurgic_jax.data.completer import TokenLogprob
from demiurgic_jax.data.document import Document
from demiurgic_jax.data.soft_targets import SoftTargets
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.data.told_targets import ToldText
from demiurgic_jax.data.vocabulary_map import Pieces
from demiurgic_jax.distillation.conversations import conversations
from demiurgic_jax.distillation.example import Example
from experiments.stages.stage import Run
from experiments.stages.teach import planned_requests
from experiments.teacher import open_ledger


class ToldAnswers:
    """What the run's teachers told with their answers, by the id of the example that was made of them."""

    def __init__(self, run: Run, tokenizer: Tokenizer) -> None:
        self._pieces, self._top_k = Pieces(tokenizer), run.config.shards.soft_targets
        requests, seeds = planned_requests(run)
        self._told: dict[str, list[tuple[TokenLogprob, ...]]] = {}
        with open_ledger(run) as ledger:
            for request, talk in zip(requests, conversations(requests, seeds, ledger.answer), strict=True):
                told = [answer.completion.logprobs for answer in talk.answers if answer.completion.logprobs]
                self._told[ledger.key(request.request)] = told

    def added_to(self, document: Document, example: Example) -> Document:
        """`document`, made of `example`, with soft targets for its answer; as it is where the answer is not what the
        teacher wrote in one piece, or came with nothing."""
        soft = self._targets(document, example)
        return document if soft is None or not soft.counts.any() else replace(document, soft_targets=soft)

    def _targets(self, document: Document, example: Example) -> SoftTargets | None:
        if document.loss_mask is None or document.loss_mask[0]:
            return None
        start = int(np.argmax(document.loss_mask))
        for told in map(ToldText, reversed(self._told.get(example.id, []))):
            if (offset := told.place(example.completion)) is not None:
                return told.targets(document.tokens, start, offset, self._pieces, self._top_k)
        return None
