"""What tokens cost. Money is counted in whole nanodollars, so that sums are exact."""

import math
from dataclasses import dataclass

from demiurgic_jax.data.completer import CompletionRequest

NANODOLLARS = 10**9
# Chat templates add turn markers, and some a system prompt of their own.
_TEMPLATE_TOKENS = 128
_TOKENS_PER_MESSAGE = 16


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens; a teacher of one's own costs 0."""

    input_per_million: float = 0.0
    output_per_million: float = 0.0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Nanodollars, rounded up."""
        dollars_times_million = prompt_tokens * self.input_per_million + completion_tokens * self.output_per_million
        return math.ceil(round(dollars_times_million * 1000, 6))

    def worst_case(self, request: CompletionRequest) -> int:
        """Nanodollars that `request` can cost at most, when asked once."""
        return self.cost(prompt_tokens_at_most(request), request.max_tokens)


def prompt_tokens_at_most(request: CompletionRequest) -> int:
    """No tokenizer makes more tokens than there are UTF-8 bytes, besides what the chat template adds."""
    texts = [message.content for message in request.messages]
    texts += [text for text in (request.prompt, request.suffix) if text is not None]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return size + _TOKENS_PER_MESSAGE * len(texts) + _TEMPLATE_TOKENS
