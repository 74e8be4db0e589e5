"""A request's options checked, and its prompt as token ids."""

from demiurgic_jax.data.chat import encode_chat
from demiurgic_jax.data.completer import CompletionRequest, UnanswerableError
from demiurgic_jax.data.fim import fim_prompt
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError

MAX_LOGPROBS = 20  # as in the OpenAI API
MAX_STOPS = 16


def check_request(request: CompletionRequest) -> None:
    """Raises UserError naming the option that is out of range."""
    bounds = (
        ("max_tokens", request.max_tokens, 0, None),
        ("temperature", request.temperature, 0, 100),
        ("top_p", request.top_p, 0, 1),
        ("top_k", request.top_k, 0, None),
        ("logprobs", 0 if request.logprobs is None else request.logprobs, 0, MAX_LOGPROBS),
    )
    for name, value, low, high in bounds:
        # Written so that NaN fails too.
        if not (value >= low and (high is None or value <= high)):
            above = "" if high is None else f" and at most {high}"
            raise UserError(f"{name} is {value}: give at least {low}{above}")
    if request.top_p == 0:
        raise UserError("top_p is 0, which leaves no token to choose: give more than 0 (temperature 0 is greedy)")
    if len(request.stop) > MAX_STOPS:
        raise UserError(f"stop has {len(request.stop)} strings: give at most {MAX_STOPS}")
    if "" in request.stop:
        raise UserError("stop has an empty string, which would end every text at once: leave it out")
    if (request.prompt is None) == (not request.messages):
        raise UserError("give exactly one of prompt (raw text) and messages (a conversation)")
    if request.suffix is not None and request.prompt is None:
        raise UserError("suffix goes with prompt (fill-in-the-middle), not with messages")


def encode_prompt(tokenizer: Tokenizer, request: CompletionRequest) -> list[int]:
    """Token ids of a checked request, at least one. Raises UserError where the tokenizer lacks the chat
    template or the FIM tokens that the request needs."""
    if request.messages:
        return encode_chat(tokenizer, request.messages)
    prompt = request.prompt or ""
    if request.suffix is not None:
        try:
            return fim_prompt(tokenizer, prompt, request.suffix)
        except UserError as error:
            raise UnanswerableError(str(error)) from error
    # A network needs something to start from.
    start = tokenizer.special.bos if tokenizer.special.bos is not None else tokenizer.special.eos
    return tokenizer.encode(prompt) or [start]
