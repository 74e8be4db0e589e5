"""Where each value comes from: flags, then the environment, then the file, then the defaults."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from demiurgic_jax.cli.config_file import ConfigFile, check
from demiurgic_jax.cli.setting_table import COMMAND_DEFAULTS, Setting, settings_of


class Resolved(NamedTuple):
    """A checked value, and in words where it comes from."""

    value: Any
    origin: str


# What the command line gave: by the setting's name, the flag as it was typed and its raw value.
Given = Mapping[str, tuple[str, Any]]

_DEFAULT = 4


def resolve(command: str | None, given: Given, environ: Mapping[str, str], file: ConfigFile) -> dict[str, Resolved]:
    """The value of each setting of `command`, by name. Raises UserError naming where a wrong one was given."""
    resolved: dict[str, Resolved] = {}
    distance: dict[str, int] = {}
    own = COMMAND_DEFAULTS.get(command or "", {})
    for setting in settings_of(command):
        name = setting.name
        resolved[name] = Resolved(own.get(name, setting.default), "default")
        distance[name] = _DEFAULT
        layers = (given.get(name), _environment(setting, command, environ), *file.layers(name, command))
        for layer, found in enumerate(layers):
            if found is not None:
                resolved[name], distance[name] = Resolved(check(setting, *found), found[0]), layer
                break
    if "url" in resolved and distance["checkpoint"] < distance["url"] < _DEFAULT:
        # Whoever names a checkpoint closer by than a server wants the checkpoint.
        resolved["url"] = Resolved(None, f"off, because of {resolved['checkpoint'].origin}")
    return resolved


def variable(name: str, command: str | None = None) -> str:
    """The environment variable of a setting."""
    return f"DEMIURGIC_{'SERVE_' if command == 'serve' else ''}{name.upper()}"


def _environment(setting: Setting, command: str | None, environ: Mapping[str, str]) -> tuple[str, Any] | None:
    names = [variable(setting.name, command)]
    if command == "serve" and setting.name == "checkpoint":
        names.append(variable(setting.name))
    # Set but empty is how a variable is switched off for one command.
    return next(((name, environ[name]) for name in names if environ.get(name)), None)
