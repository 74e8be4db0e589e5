"""What each subcommand that asks the model does with its options."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from demiurgic_jax.cli.answering import Answer, Display, request_of, say_if_cut, show, with_system, write
from demiurgic_jax.cli.languages import Language, language_called, language_of_file
from demiurgic_jax.cli.settings import Resolved
from demiurgic_jax.cli.skills import skill_prompt
from demiurgic_jax.cli.source import Ask, open_source
from demiurgic_jax.cli.source_text import Selection, read_file, read_stdin, select, split_at_place
from demiurgic_jax.data.completer import CompletionRequest, Message, UnanswerableError
from demiurgic_jax.errors import UserError

Settings = dict[str, Resolved]


def display_of(options: argparse.Namespace, settings: Settings, *, markdown: bool = False) -> Display:
    """How the options want answers shown."""
    return Display(options.json, options.raw, settings["stream"].value, markdown)


def complete(options: argparse.Namespace, settings: Settings) -> int:
    """Continues raw text, or fills in what stands at a place in a file."""
    prefix, suffix = _around(options)
    with open_source(settings) as ask:
        if options.echo and not options.json:
            write(prefix)
        request = request_of(settings, prompt=prefix, suffix=suffix)
        answer = ask(request)
        if suffix is not None and settings["truncate"].origin == "default":
            answer = _cut_to_fit(answer, ask, request)
        # Between two texts nothing may be added, not even a line's end.
        whole = suffix is not None and options.echo
        display = display_of(options, settings)
        completion = show(answer, Display(display.json, display.raw or whole, display.stream))
        if whole and not options.json:
            write(suffix or "")
    say_if_cut(completion)
    return 0


def _cut_to_fit(answer: Answer, ask: Ask, request: CompletionRequest) -> Answer:
    """Files are longer than contexts: what is far from the cursor may go, once the server has said that it must."""
    try:
        return (yield from answer)
    except UnanswerableError as error:
        try:
            first = ask(replace(request, truncate=True))
            yield next(first)
        except UserError:
            raise error from None
        except StopIteration as end:
            return end.value
    return (yield from first)


def _around(options: argparse.Namespace) -> tuple[str, str | None]:
    if options.text is not None and options.file is not None:
        raise UserError("give the text as an argument or with --file, not both")
    if options.file not in (None, "-"):
        prefix: str = read_file(options.file)
    elif options.text in (None, "-"):
        prefix = read_stdin("the text to continue")
    elif (place := split_at_place(options.text)) is not None:
        if options.suffix is not None:
            raise UserError("give FILE:LINE:COL or --suffix, not both: the file's rest is the suffix")
        return place
    else:
        prefix = options.text
    if options.suffix is not None:
        return prefix, options.suffix
    # A line's end and the next indent are often one token; a prompt that gives half of it gets a poor rest.
    return prefix.rstrip(), None


def explain(options: argparse.Namespace, settings: Settings) -> int:
    """One question about the code of a file or of stdin, answered in prose."""
    selection = select(options.file, options.lines)
    question = skill_prompt("explain", selection.code, language_of(options, selection), wish=options.wish or "")
    with open_source(settings) as ask:
        answer = ask(request_of(settings, messages=with_system(settings, Message("user", question))))
        completion = show(answer, display_of(options, settings, markdown=True))
    say_if_cut(completion)
    return 0


def chat(options: argparse.Namespace, settings: Settings) -> int:
    """One question from the argument or a pipe; a conversation on a terminal."""
    from demiurgic_jax.cli import conversation

    display = display_of(options, settings, markdown=True)
    if options.list:
        return conversation.list_chats(options.json)
    talk = conversation.begin(options, settings)
    with open_source(settings) as ask:
        if options.text is None and sys.stdin.isatty():
            return conversation.converse(talk, ask, settings, display)
        question = options.text if options.text not in (None, "-") else read_stdin("a message")
        say_if_cut(conversation.answer(talk, question, ask, settings, display))
    return 0


def language_of(options: argparse.Namespace, selection: Selection) -> Language:
    """The language that --language names, else that of the file's name."""
    if options.language:
        return language_called(options.language)
    return language_of_file(selection.path or Path())
