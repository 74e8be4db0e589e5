"""A request's options checked, and its prompt as token ids."""

from demiurgic_jax.data.chat import encode_chat
from demiurgic_jax.data.completer import CompletionRequest, UnanswerableError
from demiurgic_jax.data.fim import fim_prompt
from demiurgic_jax.data.fim_families import FimFormat
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.fim_budget import fit_fim

MAX_LOGPROBS = 20  # as in the OpenAI API
MAX_STOPS = 16
MAX_STOP_TOKENS = 16


def check_request(request: CompletionRequest) -> None:
    """Raises UserError naming the option that is out of range."""
    bounds = (
        ("max_tokens", request.max_tokens, 0, None),
        ("temperature", request.temperature, 0, 100),
        ("top_p", request.top_p, 0, 1),
        ("top_k", request.top_k, 0, None),
        ("min_p", request.min_p, 0, 1),
        ("repetition_penalty", request.repetition_penalty, 0, 100),
        ("frequency_penalty", request.frequency_penalty, -2, 2),
        ("presence_penalty", request.presence_penalty, -2, 2),
        ("max_seconds", 0 if request.max_seconds is None else request.max_seconds, 0, None),
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
    if request.repetition_penalty == 0:
        raise UserError("repetition_penalty is 0, which has no meaning: give more than 0 (1 changes nothing)")
    if len(request.stop_tokens) > MAX_STOP_TOKENS:
        raise UserError(f"stop_tokens has {len(request.stop_tokens)} ids: give at most {MAX_STOP_TOKENS}")
    if (bool(request.messages), request.prompt is not None, request.prompt_tokens is not None).count(True) != 1:
        raise UserError("give exactly one of prompt (raw text), prompt_tokens (its ids) and messages (a conversation)")
    if request.echo:
        raise UserError("echo is what a server does for those who ask over HTTP: the engine gives the answer alone")
    if request.suffix is not None and request.prompt is None:
        raise UserError("suffix goes with prompt (fill-in-the-middle), not with messages or prompt_tokens")


def encode_prompt(tokenizer: Tokenizer, request: CompletionRequest) -> list[int]:
    """Token ids of a checked request, at least one. Raises UserError where the tokenizer lacks the chat
    template or the FIM tokens that the request needs, or has fewer ids than `prompt_tokens` or `stop_tokens` name."""
    for name, ids in (("prompt_tokens", request.prompt_tokens or ()), ("stop_tokens", request.stop_tokens)):
        if (wrong := next((i for i in ids if not 0 <= i < tokenizer.vocab_size), None)) is not None:
            raise UserError(f"{name} has {wrong}, but this model's ids are 0 to {tokenizer.vocab_size - 1}")
    if request.prompt_tokens is not None:
        return list(request.prompt_tokens) or [_start(tokenizer)]
    if request.messages:
        return encode_chat(tokenizer, request.messages)
    prompt = request.prompt or ""
    if request.suffix is not None:
        try:
            return fim_prompt(tokenizer, prompt, request.suffix)
        except UserError as error:
            raise UnanswerableError(str(error)) from error
    return tokenizer.encode(prompt) or [_start(tokenizer)]


def fit_prompt(tokenizer: Tokenizer, request: CompletionRequest, prompt: list[int], max_context: int) -> list[int]:
    """The prompt, cut where the request lets it be, with room for at least one token of an answer that is wanted.

    A cut prompt leaves the answer its max_tokens, or half of the context, whichever is less; of a fill-in-the-middle,
    the prefix keeps its last lines and the suffix its first (fim_budget.py).
    Raises UnanswerableError for one that is too long.
    """
    wanted = min(request.max_tokens, 1)
    if len(prompt) + wanted <= max_context:
        return prompt
    if not request.truncate:
        raise UnanswerableError(
            f"the prompt has {len(prompt)} tokens and the context holds {max_context}, answer included: "
            "shorten the prompt"
        )
    room = max_context - min(request.max_tokens, max_context // 2)
    if request.suffix is None:
        start = tokenizer.special.bos
        if start is not None and prompt[0] == start and room > 1:
            return [start, *prompt[len(prompt) - room + 1 :]]
        return prompt[len(prompt) - room :]
    return fit_fim(FimFormat(tokenizer, "leave the suffix out"), request.prompt or "", request.suffix, (), room).tokens


def stop_ids(tokenizer: Tokenizer, request: CompletionRequest) -> frozenset[int]:
    """Ids that end the answer: those that end any text, those asked for, and those that end a middle."""
    fim = () if request.suffix is None else FimFormat(tokenizer, "leave the suffix out").stops
    return frozenset((*tokenizer.special.stops, tokenizer.special.eos, *request.stop_tokens, *fim))


def _start(tokenizer: Tokenizer) -> int:
    """A network needs something to start from."""
    return tokenizer.special.bos if tokenizer.special.bos is not None else tokenizer.special.eos
