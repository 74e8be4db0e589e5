"""The file of settings: ~/.config/demiurgic/config.toml."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demiurgic_jax.cli.setting_table import ASKING, Setting, settings_of
from demiurgic_jax.errors import UserError

PRODUCT = "demiurgic"


@dataclass(frozen=True)
class ConfigFile:
    """A TOML file: settings for all commands at its top, those of one command in a table of its name."""

    path: Path
    content: Mapping[str, Any]

    def layers(self, name: str, command: str | None) -> tuple[tuple[str, Any] | None, tuple[str, Any] | None]:
        """A setting's value in the command's table and at the top, each with where it stands; None where there is
        none. The server's settings are in its table alone."""
        own = self.content.get(command, {}) if command else {}
        top = {} if command == "serve" else self.content
        return (
            (f"{self.path}: [{command}] {name}", own[name]) if name in own else None,
            (f"{self.path}: {name}", top[name]) if name in top else None,
        )


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the file is: DEMIURGIC_CONFIG, else the place that the XDG standard gives."""
    if named := environ.get("DEMIURGIC_CONFIG"):
        return Path(named)
    return _xdg("XDG_CONFIG_HOME", ".config", environ) / "config.toml"


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where conversations are kept."""
    return _xdg("XDG_STATE_HOME", ".local/state", environ)


def _xdg(name: str, default: str, environ: Mapping[str, str]) -> Path:
    base = environ.get(name, "")
    # The standard: a relative path there is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / default) / PRODUCT


def read_config(path: Path) -> ConfigFile:
    """The file's content, empty where there is none. Raises UserError naming what is wrong in it."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if "DEMIURGIC_CONFIG" in os.environ and os.environ["DEMIURGIC_CONFIG"] == str(path):
            raise UserError(
                f"DEMIURGIC_CONFIG names {path}, which does not exist: make it or unset the variable"
            ) from None
        content = {}
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): mend its permissions") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    _check_content(path, content)
    return ConfigFile(path, content)


def _check_content(path: Path, content: Mapping[str, Any]) -> None:
    """Every name is known and every value of its kind, whichever command is run."""
    tables = (*ASKING, "serve", "models")
    for name, value in content.items():
        if name in tables:
            if not isinstance(value, dict):
                raise UserError(f"{path}: {name} is {value!r}: make it a table, [{name}]")
            for inner, raw in value.items():
                _check_entry(path, name, inner, raw)
        else:
            _check_entry(path, None, name, value, tables)


def _check_entry(path: Path, table: str | None, name: str, raw: Any, tables: Iterable[str] = ()) -> None:
    known = {setting.name: setting for setting in settings_of(table)}
    where = f"{path}: {f'[{table}] ' if table else ''}{name}"
    if name in known:
        check(known[name], where, raw)
    elif "key" in name:
        raise UserError(f"{where} is unknown: keys are kept in the environment; key_env takes the variable's name")
    else:
        raise UserError(f"{where} is unknown: {unknown(name, [*known, *tables])}")


def check(setting: Setting, origin: str, raw: Any) -> Any:
    """The checked value, else a UserError that begins with its origin."""
    try:
        return setting.kind(raw)
    except ValueError as error:
        raise UserError(f"{origin} is {raw!r}: {error}") from error


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is none of `known`."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
