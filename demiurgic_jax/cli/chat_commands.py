"""The /commands of a conversation."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from demiurgic_jax.cli import conversation
from demiurgic_jax.cli.answer_code import fenced_blocks
from demiurgic_jax.cli.answering import write
from demiurgic_jax.cli.chats import new_chat, open_chat
from demiurgic_jax.cli.config_file import check, unknown
from demiurgic_jax.cli.file_edit import write_whole
from demiurgic_jax.cli.languages import language_of_file
from demiurgic_jax.cli.setting_table import SAMPLING
from demiurgic_jax.cli.settings import Resolved
from demiurgic_jax.cli.source_text import read_file
from demiurgic_jax.cli.terminal import ask_yes, note
from demiurgic_jax.errors import UserError

if TYPE_CHECKING:
    from demiurgic_jax.cli.conversation import Conversation


class Command(NamedTuple):
    """What it takes, what it does in words, and what does it."""

    takes: str
    help: str
    run: Callable[["Conversation", str], None]


def run(talk: "Conversation", line: str) -> None:
    """Does what a line that begins with a slash says. Raises UserError when that cannot be done."""
    name, _, argument = line[1:].partition(" ")
    name = {"quit": "exit", "bye": "exit", "clear": "new", "?": "help"}.get(name, name)
    if name not in COMMANDS:
        raise UserError(f"/{name} is no command ({unknown(name, COMMANDS)}); //{name} says it to the model")
    COMMANDS[name].run(talk, argument.strip())


def _help(talk: "Conversation", _: str) -> None:
    for name, command in COMMANDS.items():
        write(f"/{f'{name} {command.takes}':22} {command.help}\n")
    write('\nA message goes on after a line that ends with \\, and from """ to """. A pasted text is one message.\n')
    write("Ctrl-C stops an answer; what was said of it until then stays in the chat.\n")


def _exit(talk: "Conversation", _: str) -> None:
    talk.ended = True


def _new(talk: "Conversation", _: str) -> None:
    system = [each for each in talk.chat.messages if each.role == "system"]
    talk.chat = new_chat(talk.keep)
    talk.chat.messages += system
    note("a new chat")


def _resume(talk: "Conversation", name: str) -> None:
    talk.chat = open_chat(name or None)
    note(f"going on with {talk.chat.name}")
    _history(talk, "")


def _system(talk: "Conversation", text: str) -> None:
    if text:
        conversation.set_system(talk.chat, "" if text in ("off", "none") else text)
    current = next((each.content for each in talk.chat.messages if each.role == "system"), None)
    note(f"the system's message is: {current}" if current else "there is no system's message")


def _set(talk: "Conversation", argument: str) -> None:
    known = {setting.name: setting for setting in SAMPLING}
    if argument:
        name, equals, value = argument.partition("=")
        name = name.strip().replace("-", "_")
        if name not in known or not equals:
            raise UserError(f"/set takes KEY=VALUE: {unknown(name, known)}")
        talk.settings[name] = Resolved(check(known[name], f"/set {name}", value.strip()), "/set")
        return
    for name in known:
        write(f"{name:20} {talk.settings[name].value}\n")


def _file(talk: "Conversation", name: str) -> None:
    if not name:
        raise UserError("/file takes a file's name")
    path = Path(name).expanduser()
    text = read_file(path)
    fence = "`" * max(3, *(len(line) - len(line.lstrip("`")) + 1 for line in text.split("\n")))
    talk.attached += f"{path.name}:\n\n{fence}{language_of_file(path).tags[0]}\n{text.rstrip()}\n{fence}\n\n"
    note(f"{path} goes with your next message")


def _edit(talk: "Conversation", _: str) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "message.md"
        path.touch()
        try:
            status = subprocess.call([*shlex.split(editor), str(path)])
        except (OSError, ValueError) as error:
            raise UserError(f"the editor {editor!r} cannot be started ({error}): set EDITOR") from error
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    if status or not text:
        note("nothing is sent")
    else:
        write(text + "\n")
        talk.asked_again = talk.attached + text


def _last_question(talk: "Conversation") -> int:
    places = [index for index, each in enumerate(talk.chat.messages) if each.role == "user"]
    if not places:
        raise UserError("nothing has been asked yet")
    return places[-1]


def _retry(talk: "Conversation", _: str) -> None:
    at = _last_question(talk)
    talk.asked_again = talk.chat.messages[at].content
    del talk.chat.messages[at:]


def _undo(talk: "Conversation", _: str) -> None:
    del talk.chat.messages[_last_question(talk) :]
    talk.chat.save()
    note("the last question and its answer are taken back")


def _history(talk: "Conversation", _: str) -> None:
    for each in talk.chat.messages:
        write({"user": "> ", "system": "system: "}.get(each.role, "") + each.content.rstrip() + "\n\n")


def _save(talk: "Conversation", name: str) -> None:
    if not name:
        raise UserError("/save takes a file's name")
    parts = [f"## {each.role}\n\n{each.content.rstrip()}\n" for each in talk.chat.messages]
    _write_file(name, "\n".join(parts))


def _code(talk: "Conversation", name: str) -> None:
    answers = [each.content for each in talk.chat.messages if each.role == "assistant"]
    blocks = [block for text in answers for block in fenced_blocks(text) if block.closed]
    if not blocks:
        raise UserError("no answer has a code block that is whole")
    if name:
        _write_file(name, blocks[-1].code)
    else:
        write(blocks[-1].code)


def _write_file(name: str, text: str) -> None:
    path = Path(name).expanduser()
    was = read_file(path) if path.exists() else None
    if was is None or ask_yes(f"Replace {path}?"):
        write_whole(path, text, was=was)
        note(f"{path} is written")


COMMANDS = {
    "help": Command("", "this list", _help),
    "exit": Command("", "ends the chat (Ctrl-D too)", _exit),
    "new": Command("", "begins another chat; this one is kept", _new),
    "resume": Command("[NAME]", "goes on with an earlier chat (the newest)", _resume),
    "file": Command("FILE", "sends a file with the next message", _file),
    "edit": Command("", "writes a message in $EDITOR", _edit),
    "retry": Command("", "asks the last question again", _retry),
    "undo": Command("", "takes the last question and its answer back", _undo),
    "system": Command("[TEXT|off]", "shows or sets the instructions of this chat", _system),
    "set": Command("[KEY=VALUE]", "shows or sets a sampling option", _set),
    "history": Command("", "shows the chat until now", _history),
    "code": Command("[FILE]", "shows the last code block, or writes it to a file", _code),
    "save": Command("FILE", "writes the chat to a file, as Markdown", _save),
}
