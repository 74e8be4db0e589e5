"""A conversation: its turns, its commands, and how it goes on after an interruption."""

import argparse
import sys
import time
from dataclasses import dataclass

from demiurgic_jax.cli import chat_commands
from demiurgic_jax.cli.answering import Answer, Display, request_of, say_if_cut, show, write, write_json
from demiurgic_jax.cli.chat_input import read_message
from demiurgic_jax.cli.chats import Chat, new_chat, open_chat, read_chat, saved_chats
from demiurgic_jax.cli.settings import Resolved
from demiurgic_jax.cli.source import Ask
from demiurgic_jax.cli.terminal import note
from demiurgic_jax.data.completer import Completion, Message
from demiurgic_jax.errors import UserError
from demiurgic_jax.sampling.stream import Piece


def begin(options: argparse.Namespace, settings: dict[str, Resolved]) -> Chat:
    """The chat that --continue or --resume names, else a new one, with the system's message of the settings.

    It is kept on disk when it is held on a terminal or goes on from one that is; pipes leave nothing behind.
    """
    resumed = options.resume is not None or options.go_on
    chat = open_chat(options.resume) if resumed else new_chat(sys.stdin.isatty() and not options.no_history)
    if options.no_history:
        chat.path = None
    system, origin = settings["system"]
    # A chat that goes on keeps its own instructions, unless others are asked for now.
    if system and (not resumed or origin.startswith("--")):
        set_system(chat, system)
    return chat


def set_system(chat: Chat, text: str) -> None:
    """Replaces the system's message; "" takes it away."""
    others = [each for each in chat.messages if each.role != "system"]
    chat.messages[:] = [Message("system", text), *others] if text else others


def list_chats(as_json: bool) -> int:
    """Prints the chats that are kept, the newest first."""
    for path in saved_chats():
        chat = read_chat(path)
        changed = path.stat().st_mtime
        turns = sum(each.role == "user" for each in chat.messages)
        if as_json:
            write_json({"name": chat.name, "changed": changed, "questions": turns, "title": chat.title})
        else:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(changed))
            write(f"{chat.name}  {when}  {turns:3} questions  {chat.title[:60]}\n")
    return 0


def answer(chat: Chat, question: str, ask: Ask, settings: dict[str, Resolved], display: Display) -> Completion:
    """One turn, shown and kept. When it fails, the chat is as it was before the question."""
    chat.messages.append(Message("user", question))
    try:
        completion = show(ask(request_of(settings, messages=chat.messages)), display)
    except BaseException:
        chat.messages.pop()
        raise
    chat.messages.append(Message("assistant", completion.text))
    chat.save()
    return completion


@dataclass
class Conversation:
    """What the commands of a conversation see and change."""

    chat: Chat
    settings: dict[str, Resolved]
    keep: bool
    attached: str = ""
    asked_again: str | None = None
    ended: bool = False


def converse(chat: Chat, ask: Ask, settings: dict[str, Resolved], display: Display) -> int:
    """Reads messages and commands from the terminal until its end. 130 after two Ctrl-C in a row."""
    talk = Conversation(chat, settings, chat.path is not None)
    note(f"{f'going on with {chat.name}' if chat.messages else 'a new chat'}; /help lists commands, Ctrl-D ends")
    interrupted = False
    while not talk.ended:
        try:
            message = read_message(keep=talk.keep)
        except EOFError:
            break
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            if interrupted:
                return 130
            note("Ctrl-C again, Ctrl-D or /exit ends the chat")
            interrupted = True
            continue
        interrupted = False
        try:
            _turn(talk, message, ask, display)
        except UserError as error:
            note(str(error))
    return 0


def _turn(talk: Conversation, message: str, ask: Ask, display: Display) -> None:
    talk.asked_again = None
    before = list(talk.chat.messages)
    if message.startswith("/") and not message.startswith("//"):
        chat_commands.run(talk, message)
        if talk.asked_again is None:
            return
        question = talk.asked_again
    else:
        question = talk.attached + message.removeprefix("/" if message.startswith("//") else "")
    if not question.strip():
        return
    said: list[str] = []
    try:
        completion = answer(talk.chat, question, lambda request: _noted(ask(request), said), talk.settings, display)
        talk.attached = ""
        say_if_cut(completion)
    except UserError:
        # /retry had taken the old answer away.
        talk.chat.messages[:] = before
        raise
    except KeyboardInterrupt:
        # What was said is a part of the conversation: "go on" must have something to go on from.
        sys.stderr.write("\n")
        note("stopped")
        talk.chat.messages += [Message("user", question), Message("assistant", "".join(said))]
        talk.chat.save()


def _noted(answer: Answer, said: list[str]) -> Answer:
    while True:
        try:
            piece: Piece = next(answer)
        except StopIteration as end:
            return end.value
        said.append(piece.text)
        yield piece
