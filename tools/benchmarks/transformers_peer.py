"""`generate` of `transformers` as a Completer, and how close the two likeliest tokens lie where two texts part."""

import asyncio
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from demiurgic_jax.data.completer import Completion, CompletionRequest, UnanswerableError

# A stop string reaches over no more tokens than these.
_STOP_TOKENS = 24


@dataclass(frozen=True)
class Parting:
    """The two likeliest tokens where two greedy texts part, after `position` tokens that they share: the logits'
    distance in float64, and by how much float32 errs there (the largest error over the vocabulary, of one forward
    pass)."""

    position: int
    tokens: tuple[str, str]
    distance: float
    error: float

    @property
    def is_tie(self) -> bool:
        """Each of two logits may err by `error`, so that float32 cannot tell them apart."""
        return self.distance <= 2 * self.error


class TransformersCompleter:
    """Greedy answers to raw prompts in float32. Requests that come together are answered in one batch of at most
    `batch`, padded at the left; each row ends at its own stop strings. The weights and the tokenizer are those of a
    Hugging Face folder."""

    def __init__(self, folder: Path, max_context: int, batch: int = 8):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.folder = folder
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
        self.max_context, self.batch = max_context, batch
        self._waiting: list[tuple[CompletionRequest, list[int], asyncio.Future[Completion]]] = []
        self._work: asyncio.Task[None] | None = None

    async def complete(self, request: CompletionRequest) -> Completion:
        ids = self._prompt(request)
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, ids, answer))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._answer())
        return await answer

    def parting(self, request: CompletionRequest, one: str, other: str) -> Parting | None:
        """Where the answers `one` and `other` to `request` part; None where neither parts from what is generated for it
        alone."""
        import torch

        prompt = self._prompt(request)
        (new,) = self._generate([request], [prompt])
        texts = [self._text(new[: count + 1]).rstrip("\ufffd") for count in range(len(new))]
        position = next(
            (n for n, text in enumerate(texts) if not (one.startswith(text) and other.startswith(text))), None
        )
        if position is None:
            return None
        ids = torch.tensor([prompt + new[:position]])
        with torch.inference_mode():
            double = self._double(ids).logits[0, -1]
            error = (self.model(ids).logits[0, -1].double() - double).abs().max()
        likeliest = double.topk(2)
        tokens = [self.tokenizer.decode([each]) for each in likeliest.indices.tolist()]
        distance = likeliest.values[0] - likeliest.values[1]
        return Parting(position, (tokens[0], tokens[1]), float(distance), float(error))

    @cached_property
    def _double(self) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.folder, dtype="float64").eval()

    def _prompt(self, request: CompletionRequest) -> list[int]:
        if request.messages or request.suffix is not None or request.temperature or request.prompt is None:
            raise UnanswerableError("only raw prompts are compared, greedily")
        ids: list[int] = self.tokenizer(request.prompt, add_special_tokens=False)["input_ids"]
        if len(ids) >= self.max_context:
            raise UnanswerableError(f"the prompt has {len(ids)} tokens and the context holds {self.max_context}")
        return ids

    async def _answer(self) -> None:
        while self._waiting:
            await asyncio.sleep(0.01)  # those whose turn the last batch made are on their way
            taken, self._waiting = self._waiting[: self.batch], self._waiting[self.batch :]
            requests, prompts = [each[0] for each in taken], [each[1] for each in taken]
            try:
                made = await asyncio.to_thread(self._generate, requests, prompts)
            except Exception as error:
                for _, _, answer in taken:
                    answer.set_exception(error)
                continue
            for (request, ids, answer), new in zip(taken, made, strict=True):
                text = self._text(new)
                places = [place for stop in request.stop if (place := text.find(stop)) >= 0]
                ended = bool(places) or new[-1] in self._ends
                kept = text[: min(places)] if places else text
                answer.set_result(Completion(kept, "stop" if ended else "length", len(ids), len(new)))

    def _generate(self, requests: list[CompletionRequest], prompts: list[list[int]]) -> list[list[int]]:
        """The new tokens of each request, its end-of-text token included."""
        import torch

        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        room = [
            min(request.max_tokens, self.max_context - len(prompt))
            for request, prompt in zip(requests, prompts, strict=True)
        ]
        lengths = [0] * len(prompts)

        def ended(ids: Any, scores: Any, **_: Any) -> Any:
            new = ids[:, width:].tolist()
            for row, (request, tokens) in enumerate(zip(requests, new, strict=True)):
                tail = self._text(tokens[-_STOP_TOKENS:])
                done = (
                    len(tokens) >= room[row] or tokens[-1] in self._ends or any(stop in tail for stop in request.stop)
                )
                if done and not lengths[row]:
                    lengths[row] = len(tokens)
            return torch.tensor([bool(length) for length in lengths])

        with torch.inference_mode():
            made = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=max(room),
                pad_token_id=0,
                stopping_criteria=[ended],
            )
        return [tokens[:length] for tokens, length in zip(made[:, width:].tolist(), lengths, strict=True)]

    def _text(self, tokens: list[int]) -> str:
        # A byte-pair decoder may tidy spaces up; what was generated is wanted as it is.
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    @property
    def _ends(self) -> list[int]:
        ends = self.model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [ends]
