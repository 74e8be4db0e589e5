"""What tokens cost, and how many a request can take. Money is counted in whole nanodollars, so that sums are exact."""

import math
from dataclasses import dataclass, replace

from demiurgic_jax.data.completer import Completion, CompletionRequest

NANODOLLARS = 10**9
# Chat templates add turn markers, and some a system prompt of their own.
_TEMPLATE_TOKENS = 128
_TOKENS_PER_MESSAGE = 16
# Code and prose have 2 to 5 bytes a token. A teacher that counts more bytes than these to a token counts wrongly.
_MOST_BYTES_PER_TOKEN = 16
# What is likely rather than what is the most.
_BYTES_PER_TOKEN = 3.5


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens; a teacher of one's own costs 0."""

    input_per_million: float = 0.0
    output_per_million: float = 0.0

    def times(self, factor: float) -> "Price":
        """A part of the price, or a multiple."""
        return Price(self.input_per_million * factor, self.output_per_million * factor)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Nanodollars, rounded up."""
        dollars_times_million = prompt_tokens * self.input_per_million + completion_tokens * self.output_per_million
        return math.ceil(round(dollars_times_million * 1000, 6))

    def worst_case(self, request: CompletionRequest) -> int:
        """Nanodollars that `request` can cost at most, when asked once."""
        return self.cost(prompt_tokens_at_most(request), request.max_tokens)


def prompt_tokens_at_most(request: CompletionRequest) -> int:
    """No tokenizer makes more tokens than there are UTF-8 bytes, besides what the chat template adds."""
    ids = len(request.prompt_tokens or ())
    return _size(request) + ids + _TOKENS_PER_MESSAGE * len(_texts(request)) + _TEMPLATE_TOKENS


def prompt_tokens_likely(request: CompletionRequest) -> int:
    """An estimate, for rates and forecasts: never for the budget."""
    ids = len(request.prompt_tokens or ())
    return math.ceil(_size(request) / _BYTES_PER_TOKEN) + ids + 8 * len(_texts(request))


def tokens_at_most(request: CompletionRequest) -> int:
    """Tokens of question and answer that `request` can take when asked once."""
    return prompt_tokens_at_most(request) + request.max_tokens


def credible(request: CompletionRequest, completion: Completion) -> tuple[Completion, bool]:
    """The completion with usage figures that can be booked, and whether the teacher's own were.

    A figure that is negative, above what the request can take, or too small for the text beside it, is replaced by the
    most that the request can take, so that a teacher that miscounts cannot take the bill over the budget.
    """
    most_in, most_out = prompt_tokens_at_most(request), request.max_tokens
    least_in = _size(request) // _MOST_BYTES_PER_TOKEN
    # An echoed prompt stands in the text as well.
    least_out = 0 if request.echo else _bytes(completion.text) // _MOST_BYTES_PER_TOKEN
    fits_in = least_in <= completion.prompt_tokens <= most_in
    fits_out = least_out <= completion.completion_tokens <= most_out
    if fits_in and fits_out:
        return completion, True
    booked = replace(
        completion,
        prompt_tokens=completion.prompt_tokens if fits_in else most_in,
        completion_tokens=completion.completion_tokens if fits_out else most_out,
    )
    return booked, False


def _texts(request: CompletionRequest) -> list[str]:
    texts = [message.content for message in request.messages]
    return texts + [text for text in (request.prompt, request.suffix) if text is not None]


def _size(request: CompletionRequest) -> int:
    return sum(map(_bytes, _texts(request)))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
