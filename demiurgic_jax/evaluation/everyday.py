"""Ten everyday prompts: does what the model writes parse, or begin something that does?"""

from dataclasses import dataclass
from pathlib import Path

from demiurgic_jax.curation.jsonl import read_jsonl
from demiurgic_jax.curation.python_code import begins_program, parses
from demiurgic_jax.data.completer import Completion, CompletionRequest

EVERYDAY_PYTHON = Path(__file__).with_name("prompts") / "everyday_python.jsonl"


@dataclass(frozen=True)
class EverydayResult:
    """`parses` and `begins` are about prompt and completion together; a blank completion is neither."""

    name: str
    prompt: str
    completion: str
    parses: bool
    begins: bool


def everyday_prompts(path: str | Path = EVERYDAY_PYTHON) -> dict[str, str]:
    """Prompt texts by name, in the file's order.

    They end without white space: a line's end and the next line's indent are often one token, and a prompt
    that gives half of it makes the rest unlikely.
    """
    return {row["name"]: row["prompt"] for _, row in read_jsonl(path)}


def everyday_requests(*, max_tokens: int = 96) -> dict[str, CompletionRequest]:
    """Every prompt as a greedy raw completion, by name."""
    prompts = everyday_prompts()
    return {name: CompletionRequest(prompt=prompt, max_tokens=max_tokens) for name, prompt in prompts.items()}


def judge_everyday(name: str, request: CompletionRequest, completion: Completion) -> EverydayResult:
    """Looks at the syntax of what came back."""
    prompt = request.prompt or ""
    text, wrote = prompt + completion.text, bool(completion.text.strip())
    return EverydayResult(name, prompt, completion.text, wrote and parses(text), wrote and begins_program(text))
