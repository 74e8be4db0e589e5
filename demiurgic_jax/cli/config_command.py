"""`demiurgic config`: every setting, its value, and where that comes from."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from demiurgic_jax.cli.config_file import config_path, read_config
from demiurgic_jax.cli.file_edit import write_whole
from demiurgic_jax.cli.setting_table import AS_THE_CODE_NEEDS, ASKING, SERVE, Setting, settings_of
from demiurgic_jax.cli.settings import resolve, variable
from demiurgic_jax.cli.terminal import note
from demiurgic_jax.errors import UserError


def show_config(options: argparse.Namespace) -> int:
    """Prints the settings as `options.of` sees them, or as all asking commands do, with the file's tables below."""
    path = config_path()
    if options.path:
        print(path)
        return 0
    if options.init:
        return _init(path)
    file = read_config(path)
    resolved = resolve(options.of, {}, os.environ, file)
    if options.json:
        content = {name: {"value": each.value, "from": each.origin} for name, each in resolved.items()}
        print(json.dumps({"file": str(path), "settings": content}, ensure_ascii=False))
        return 0
    print(f"{path}{'' if path.exists() else ' is not there (demiurgic config --init makes it)'}\n")
    for setting in settings_of(options.of):
        value, origin = resolved[setting.name]
        print(f"{setting.name:20} {_shown(setting, value, options.of):32} {origin}")
    for table in () if options.of else (name for name in (*ASKING, "serve") if name in file.content):
        for name, value in file.content[table].items():
            print(f"{f'[{table}] {name}':20} {_plain(value):32} {path}: for this command alone")
    if not options.of:
        print("\ndemiurgic config COMMAND shows the settings as that command sees them.")
    return 0


def _shown(setting: Setting, value: Any, command: str | None) -> str:
    if value is not None and value != ():
        return _plain(value)
    return AS_THE_CODE_NEEDS if setting.name == "max_tokens" and command else setting.shown


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _init(path: Path) -> int:
    if path.exists():
        raise UserError(f"{path} exists: edit it, or remove it first")
    lines = [
        "# Settings of the demiurgic command. Flags and the environment (DEMIURGIC_NAME) come before them.",
        "# A table [fix], [chat], [serve] … holds what is meant for that command alone.",
        "",
    ]
    for setting in settings_of(None):
        lines += _commented(setting, variable(setting.name))
    lines += ["", "[serve]"]
    for setting in SERVE:
        lines += _commented(setting, variable(setting.name, "serve"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be made ({error.strerror})") from error
    write_whole(path, "\n".join(lines) + "\n", was=None)
    note(f"{path} is written: every line is a comment until you take its # away")
    return 0


def _commented(setting: Setting, name: str) -> list[str]:
    default = "" if setting.default is None else setting.default
    value = json.dumps(list(default) if isinstance(default, tuple) else default, ensure_ascii=False)
    return [f"# {setting.help} ({name})", f"# {setting.name} = {value}"]
