"""What each subcommand does with its options."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from demiurgic_jax.cli.skills import skill_prompt
from demiurgic_jax.cli.source import Ask, find_checkpoint, model_name, open_source
from demiurgic_jax.data.completer import Completion, CompletionRequest, Message
from demiurgic_jax.errors import UserError


def complete(options: argparse.Namespace) -> None:
    """Continues raw text."""
    # A line's end and the next indent are often one token; a prompt that gives half of it gets a poor rest.
    prompt = _text(options.text, options.file, "the text to continue").rstrip()
    with open_source(options) as ask:
        if options.echo and not options.json:
            _write(prompt)
        _show(ask, _request(options, prompt=prompt), options)


def skill(options: argparse.Namespace) -> None:
    """explain, fix and refactor: one question about the code of a file or of stdin."""
    code = _text(None, options.file, "the code")
    message = Message("user", skill_prompt(options.command, code))
    with open_source(options) as ask:
        _show(ask, _request(options, messages=(message,)), options)


def chat(options: argparse.Namespace) -> None:
    """One question from the argument or a pipe; a conversation on a terminal."""
    history = [Message("system", options.system)] if options.system else []
    if options.text is None and sys.stdin.isatty():
        _converse(options, history)
        return
    question = Message("user", _text(options.text, None, "a message"))
    with open_source(options) as ask:
        _show(ask, _request(options, messages=(*history, question)), options)


def serve(options: argparse.Namespace) -> None:
    """Serves a checkpoint until interrupted."""
    try:
        from demiurgic_jax.sampling.server import serve as serve_engine
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise UserError(
            f"serving needs the package {error.name}: install it with pip install 'demiurgic_jax[serve]'"
        ) from error
    from demiurgic_jax.sampling.opening import open_engine

    checkpoint = find_checkpoint(options.checkpoint)
    name = options.model or model_name(checkpoint)
    with open_engine(checkpoint, slots=options.slots, max_context=options.max_context) as engine:
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"demiurgic: serving {name} at http://{host}:{options.port}/v1 (Ctrl-C ends it)", file=sys.stderr)
        serve_engine(engine, name, options.host, options.port)


def _converse(options: argparse.Namespace, history: list[Message]) -> None:
    with open_source(options) as ask:
        print("Ctrl-D ends the conversation.", file=sys.stderr)
        while True:
            try:
                question = input("> ")
            except EOFError:
                print()
                return
            if not question.strip():
                continue
            history.append(Message("user", question))
            answer = _show(ask, _request(options, messages=tuple(history)), options)
            history.append(Message("assistant", answer.text))


def _text(given: str | None, file: str | None, what: str) -> str:
    """The argument itself, else the file's content, else all of stdin ("-" means stdin too)."""
    if given is not None and file is not None:
        raise UserError("give the text as an argument or with --file, not both")
    if given is not None and given != "-":
        return given
    try:
        if file is not None and file != "-":
            return Path(file).read_bytes().decode()
        if sys.stdin.isatty():
            raise UserError(f"give {what}: as an argument, a file, or through a pipe (demiurgic --help has examples)")
        return sys.stdin.buffer.read().decode()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): give a text file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file or 'stdin'} is not UTF-8 at byte {error.start}: convert it first") from error


def _request(
    options: argparse.Namespace, *, prompt: str | None = None, messages: Sequence[Message] = ()
) -> CompletionRequest:
    return CompletionRequest(
        prompt=prompt,
        messages=tuple(messages),
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        stop=tuple(options.stop),
        seed=options.seed,
    )


def _show(ask: Ask, request: CompletionRequest, options: argparse.Namespace) -> Completion:
    """Prints the answer in the way that the options ask for, and returns it."""
    pieces = ask(request)
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            completion: Completion = end.value
            break
        if not (options.json or options.no_stream):
            _write(piece.text)
    if options.json:
        fields = ("text", "finish_reason", "prompt_tokens", "completion_tokens")
        _write(json.dumps({name: getattr(completion, name) for name in fields}, ensure_ascii=False))
    elif options.no_stream:
        _write(completion.text)
    if options.json or not completion.text.endswith("\n"):
        _write("\n")
    return completion


def _write(text: str) -> None:
    # Bytes, so that neither the locale nor newline translation changes what the model wrote.
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
