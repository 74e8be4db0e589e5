"""fix, refactor and translate: code goes to the model, code comes back."""

import argparse
import sys
from pathlib import Path

from demiurgic_jax.cli.answer_code import NoCodeError, code_of
from demiurgic_jax.cli.answering import collect, json_of, request_of, with_system, write, write_json
from demiurgic_jax.cli.commands import Settings, language_of
from demiurgic_jax.cli.file_edit import unified_diff, write_whole
from demiurgic_jax.cli.languages import language_called
from demiurgic_jax.cli.settings import Resolved
from demiurgic_jax.cli.skills import answer_tokens, skill_prompt
from demiurgic_jax.cli.source import open_source
from demiurgic_jax.cli.source_text import Selection, read_file, select
from demiurgic_jax.cli.terminal import Progress, ask_yes, colour_diff, note, wants_colour
from demiurgic_jax.data.completer import Completion, Message
from demiurgic_jax.errors import UserError


def edit(options: argparse.Namespace, settings: Settings) -> int:
    """fix and refactor: a file's change as a diff, or written into it; stdin's code to stdout."""
    if options.apply and options.file in (None, "-"):
        raise UserError("--apply writes a file: name one")
    selection = select(options.file, options.lines)
    completion = _ask(options, settings, selection)
    if options.raw:
        write(completion.text)
    try:
        language = language_of(options, selection)
        code = code_of(completion.text, completion.finish_reason, language, selection.code)
    except NoCodeError as error:
        return _refused(options, completion, error)
    new = selection.replaced(code)
    diff = unified_diff(selection.text, new, selection.name)
    if options.json:
        applied = bool(diff) and options.apply and _apply(options, selection, new)
        write_json(json_of(completion) | {"code": code, "diff": diff, "applied": applied})
    elif options.raw:
        if options.apply and diff:
            _apply(options, selection, new)
    elif selection.path is None:
        write(new)
    elif not diff:
        note(f"{selection.name} stays as it is: the answer is the same code")
    else:
        write(colour_diff(diff) if wants_colour(sys.stdout) else diff)
        if options.apply:
            _apply(options, selection, new)
    return 0


def translate(options: argparse.Namespace, settings: Settings) -> int:
    """The code in another language, on stdout or in a new file."""
    target = language_called(options.to)
    selection = select(options.file, options.lines)
    if language_of(options, selection) == target:
        raise UserError(f"{selection.name} is {target.name} already: give another language with --to")
    completion = _ask(options, settings, selection)
    if options.raw:
        write(completion.text)
    try:
        code = code_of(completion.text, completion.finish_reason, target, selection.code, rewrites=False)
    except NoCodeError as error:
        return _refused(options, completion, error)
    code = code.strip("\n") + "\n"
    written = options.out is not None and _write_new(options, Path(options.out), code)
    if options.json:
        write_json(json_of(completion) | {"code": code, "written": written})
    elif options.out is None and not options.raw:
        write(code)
    return 0


def _ask(options: argparse.Namespace, settings: Settings, selection: Selection) -> Completion:
    target = language_called(options.to) if options.command == "translate" else None
    language = language_of(options, selection)
    question = skill_prompt(options.command, selection.code, language, target, options.wish or "")
    if settings["max_tokens"].value is None:
        settings = settings | {"max_tokens": Resolved(answer_tokens(selection.code), "default")}
    progress = Progress(options.command)
    with open_source(settings) as ask:
        answer = ask(request_of(settings, messages=with_system(settings, Message("user", question))))
        try:
            return collect(answer, progress.step)
        finally:
            progress.end()


def _refused(options: argparse.Namespace, completion: Completion, error: NoCodeError) -> int:
    if options.json:
        write_json(json_of(completion) | {"code": None, "error": str(error)})
    note(f"{error}{'; nothing is written' if getattr(options, 'apply', False) else ''}")
    return 1


def _apply(options: argparse.Namespace, selection: Selection, new: str) -> bool:
    assert selection.path is not None
    if not _agreed(options, f"Write {selection.path}?"):
        note(f"{selection.path} stays as it is")
        return False
    write_whole(selection.path, new, was=selection.text)
    note(f"{selection.path} is written")
    return True


def _write_new(options: argparse.Namespace, path: Path, code: str) -> bool:
    was = read_file(path) if path.exists() else None
    if was is not None and not options.yes:
        if not sys.stdin.isatty():
            raise UserError(f"{path} exists: give --yes to replace it, or another --out")
        if not ask_yes(f"Replace {path}?"):
            note(f"{path} stays as it is")
            return False
    write_whole(path, code, was=was)
    note(f"{path} is written")
    return True


def _agreed(options: argparse.Namespace, question: str) -> bool:
    """Asked of a person only: a script that says --apply means it."""
    return options.yes or not (sys.stdin.isatty() and sys.stderr.isatty()) or ask_yes(question)
