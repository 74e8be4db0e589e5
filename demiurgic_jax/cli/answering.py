"""A question to the model, and its answer on stdout: as it comes, or whole, as Markdown, raw, or JSON."""

import json
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demiurgic_jax.cli.setting_table import SAMPLING
from demiurgic_jax.cli.settings import Resolved
from demiurgic_jax.cli.terminal import is_terminal, note
from demiurgic_jax.data.completer import Completion, CompletionRequest, Message
from demiurgic_jax.sampling.stream import Piece

Answer = Generator[Piece, None, Completion]


@dataclass(frozen=True)
class Display:
    """How answers are shown. `markdown` is for prose alone, and done on a terminal only."""

    json: bool = False
    raw: bool = False
    stream: bool = True
    markdown: bool = False

    @property
    def formatted(self) -> bool:
        """Whether the answer is drawn as Markdown."""
        return self.markdown and not self.raw and not self.json and is_terminal(sys.stdout)


def request_of(
    settings: Mapping[str, Resolved],
    *,
    prompt: str | None = None,
    suffix: str | None = None,
    messages: Sequence[Message] = (),
) -> CompletionRequest:
    """The request that the sampling settings make of a prompt or of messages."""
    options = {each.name: settings[each.name].value for each in SAMPLING}
    return CompletionRequest(prompt=prompt, suffix=suffix, messages=tuple(messages), **options)


def with_system(settings: Mapping[str, Resolved], *messages: Message) -> tuple[Message, ...]:
    """The messages behind the system's, where one is set."""
    system = settings["system"].value
    return (Message("system", system), *messages) if system else messages


def show(answer: Answer, display: Display) -> Completion:
    """Prints the answer in the way that `display` says, and returns it."""
    if display.formatted and display.stream:
        from demiurgic_jax.cli.markdown import show_markdown

        return show_markdown(answer)
    streaming = display.stream and not display.json and not display.formatted
    completion = collect(answer, write if streaming else None)
    if display.json:
        write_json(json_of(completion))
    elif display.formatted:
        from demiurgic_jax.cli.markdown import print_markdown

        print_markdown(completion.text)
    elif not streaming:
        write(completion.text)
    if not (display.json or display.raw or display.formatted or completion.text.endswith("\n")):
        write("\n")
    return completion


def collect(answer: Answer, see: Callable[[str], object] | None = None) -> Completion:
    """The whole completion; `see` is called with each piece of text as it arrives."""
    while True:
        try:
            piece = next(answer)
        except StopIteration as end:
            return end.value
        if see is not None:
            see(piece.text)


def say_if_cut(completion: Completion) -> None:
    """Tells a person that there is more where the answer ends."""
    if completion.finish_reason == "length" and sys.stderr.isatty():
        note(f"cut off after {completion.completion_tokens} tokens (-o max_tokens=N allows more)")


def json_of(completion: Completion) -> dict[str, Any]:
    """An answer as the object that --json prints."""
    names = ("text", "finish_reason", "prompt_tokens", "completion_tokens")
    content: dict[str, Any] = {name: getattr(completion, name) for name in names}
    if completion.logprobs is not None:
        content["logprobs"] = [
            {"token": each.token, "logprob": each.logprob, "top": [list(pair) for pair in each.top]}
            for each in completion.logprobs
        ]
    return content


def write_json(content: Mapping[str, Any]) -> None:
    """One object, on one line."""
    write(json.dumps(content, ensure_ascii=False) + "\n")


def write(text: str) -> None:
    """Text on stdout, now."""
    # Bytes, so that neither the locale nor newline translation changes what the model wrote.
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()
