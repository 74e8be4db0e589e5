"""Finding a config by its short name, and laying `--config.field=value` over it."""

import ast
import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from ml_collections import ConfigDict

from demiurgic_jax.errors import UserError
from experiments import configs

T = TypeVar("T")


def config_names() -> list[str]:
    """The named experiments: the files of experiments/configs, but for those that others build on (`_name.py`)."""
    return sorted(name for _, name, _ in pkgutil.iter_modules(configs.__path__) if not name.startswith("_"))


def load_config(name: str, overrides: Sequence[tuple[str, str]] = ()) -> ConfigDict:
    """The locked config `name` with (dotted field, text) overrides applied.

    Overrides of what `get_config` takes as arguments, e.g. `hardware`, decide other fields too, so they come first.
    UserError lists the known names, or suggests the nearest field.
    """
    if name not in config_names():
        near = difflib.get_close_matches(name, config_names(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"no config is called {name!r}: {hint}known are {', '.join(config_names())}")
    get_config: Callable[..., ConfigDict] = importlib.import_module(f"experiments.configs.{name}").get_config
    arguments = {field: taken.default for field, taken in inspect.signature(get_config).parameters.items()}
    chosen = {field: _parsed(field, text, arguments[field]) for field, text in overrides if field in arguments}
    config = get_config(**chosen)
    config.lock()
    for field, text in overrides:
        if field not in arguments:
            _override(config, field, text)
    return config


def config_docstring(name: str) -> str:
    """What the config says of itself: command, hardware, time, expected result."""
    return importlib.import_module(f"experiments.configs.{name}").__doc__ or ""


def field_values(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf as (dotted name, value)."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from field_values(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _override(config: ConfigDict, field: str, text: str) -> None:
    known = dict(field_values(config))
    if field not in known:
        near = difflib.get_close_matches(field, known, n=1, cutoff=0.4)
        inside = [name for name in known if name.startswith(field + ".")]
        hint = f"its fields are {', '.join(inside)}" if inside else f"did you mean config.{(near or list(known))[0]}?"
        raise UserError(f"config has no field {field!r} that takes a value: {hint}")
    *path, last = field.split(".")
    node = config
    for part in path:
        node = node[part]
    node[last] = _parsed(field, text, known[field])


def _parsed(field: str, text: str, current: Any) -> Any:
    """`text` as a value of the same type as `current`."""
    if isinstance(current, str):
        return text
    value: Any
    try:
        # Shells and other tools write true and false in small letters.
        value = ast.literal_eval(text.capitalize() if text.lower() in ("true", "false") else text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(current, bool):
        fits = isinstance(value, bool)
    elif isinstance(current, float):
        value = float(value) if type(value) is int else value
        fits = isinstance(value, float)
    elif isinstance(current, tuple):
        value = value if isinstance(value, tuple) else (value,)
        fits = True
    else:
        fits = type(value) is type(current)
    if not fits:
        raise UserError(f"config.{field}={text} is no {type(current).__name__}: its value is now {current!r}")
    return value


def as_dataclass(cls: type[T], config: ConfigDict, where: str) -> T:
    """The dataclass `cls` (nested ones too) from the fields of `config` that bear its names."""
    assert is_dataclass(cls)
    hints = get_type_hints(cls)
    values = {}
    for field in fields(cls):
        if field.name in config:
            value = config[field.name]
            if isinstance(value, ConfigDict):
                kind: Any = hints[field.name]
                nested = is_dataclass(kind)
                value = as_dataclass(kind, value, f"{where}.{field.name}") if nested else value.to_dict()
            values[field.name] = value
    if unknown := sorted(set(config.keys()) - {field.name for field in fields(cls)}):
        raise UserError(f"config.{where} has the unknown field {unknown[0]!r}")
    return cls(**values)
