"""Conversations on disk: one file each, JSON lines of role and content, readable by their owner alone."""

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from demiurgic_jax.cli.config_file import state_folder
from demiurgic_jax.data.completer import Message
from demiurgic_jax.errors import UserError


@dataclass
class Chat:
    """A conversation; with a path it is on disk after every `save`, whole or as it was before."""

    path: Path | None
    messages: list[Message] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.stem if self.path else ""

    @property
    def title(self) -> str:
        """The first line of the first question."""
        first = next((each.content for each in self.messages if each.role == "user"), "")
        return first.strip().split("\n")[0]

    def save(self) -> None:
        """Raises UserError when the disk does not take it."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent)  # readable by the owner alone
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                for message in self.messages:
                    file.write(json.dumps(asdict(message), ensure_ascii=False) + "\n")
            os.replace(temporary, self.path)
        except OSError as error:
            raise UserError(f"the chat cannot be kept in {self.path} ({error.strerror}): try --no-history") from error


def chats_folder() -> Path:
    return state_folder() / "chats"


def new_chat(keep: bool) -> Chat:
    """A chat named after the moment; of two in one second the second has another name."""
    if not keep:
        return Chat(None)
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    names = [name, *(f"{name}_{count}" for count in range(2, 100))]
    return Chat(next(path for each in names if not (path := chats_folder() / f"{each}.jsonl").exists()))


def saved_chats() -> list[Path]:
    """The newest first."""
    return sorted(chats_folder().glob("*.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True)


def open_chat(name: str | None) -> Chat:
    """The chat of that name or of the only one that begins so; None: the newest. UserError where there is none."""
    saved = saved_chats()
    if not saved:
        raise UserError(f"there is no chat in {chats_folder()} yet: begin one with demiurgic chat")
    if name is None:
        return read_chat(saved[0])
    found = [path for path in saved if path.stem == name] or [path for path in saved if path.stem.startswith(name)]
    if len(found) != 1:
        which = "is no chat" if not found else f"begins the names of {len(found)} chats"
        raise UserError(f"{name!r} {which}: demiurgic chat --list has their names")
    return read_chat(found[0])


def read_chat(path: Path) -> Chat:
    """Raises UserError naming the line that is none of a chat."""
    messages = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): remove it") from error
    for number, line in enumerate(lines, 1):
        try:
            message = Message(**json.loads(line))
            if message.role not in ("system", "user", "assistant") or not isinstance(message.content, str):
                raise ValueError(f"role {message.role!r}")
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}, line {number}, is no message ({error}): mend or remove the file") from error
        messages.append(message)
    return Chat(path, messages)
