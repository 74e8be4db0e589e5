"""Typed JSON values as expressions of the seven languages. The types are those of mini/README.md."""

import json
import re
from collections.abc import Callable
from typing import Any

_GENERIC = re.compile(r"(list|map|optional|result)<(?:string,)?(.*)>")
_GO = {"int": "int", "float": "float64", "bool": "bool", "string": "string"}
_RUST = {"int": "i64", "float": "f64", "bool": "bool", "string": "String"}
_JAVA = {"int": "Integer", "float": "Double", "bool": "Boolean", "string": "String"}
_CPP = {"int": "int", "float": "double", "bool": "bool", "string": "::std::string"}


def type_parts(type_: str) -> tuple[str, str]:
    """("list", "int") of "list<int>", ("map", "int") of "map<string,int>"; ("int", "") of "int"."""
    found = _GENERIC.fullmatch(type_)
    return (found[1], found[2]) if found else (type_, "")


def _quoted(text: str, escape: Callable[[int], str]) -> str:
    """In double quotes; what is not plain ASCII is written by its code point."""
    plain = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(plain.get(c) or (c if " " <= c <= "~" else escape(ord(c))) for c in text) + '"'


def _number(value: Any, type_: str) -> str:
    return repr(float(value)) if type_ == "float" else json.dumps(value)


def _items(write: Callable[[Any, str], str], value: Any, inner: str) -> str:
    return ", ".join(write(item, inner) for item in value)


def python_value(value: Any, type_: str) -> str:
    return repr(float(value)) if type_ == "float" else repr(value)


def script_value(value: Any, type_: str) -> str:
    return json.dumps(value)


def go_type(type_: str) -> str:
    kind, inner = type_parts(type_)
    return {"list": "[]", "map": "map[string]"}[kind] + go_type(inner) if inner else _GO[kind]


def go_value(value: Any, type_: str) -> str:
    kind, inner = type_parts(type_)
    if kind == "string":
        return _quoted(value, lambda code: f"\\U{code:08x}")
    if kind == "list":
        return f"{go_type(type_)}{{{_items(go_value, value, inner)}}}"
    if kind == "map":
        entries = (f"{go_value(key, 'string')}: {go_value(item, inner)}" for key, item in value.items())
        return f"{go_type(type_)}{{{', '.join(entries)}}}"
    return _number(value, kind)


def rust_type(type_: str) -> str:
    kind, inner = type_parts(type_)
    return {"list": "Vec<{}>", "map": "::std::collections::HashMap<String, {}>"}[kind].format(
        rust_type(inner)
    ) if inner else _RUST[kind]  # fmt: skip


def rust_value(value: Any, type_: str) -> str:
    """An owned value."""
    kind, inner = type_parts(type_)
    if kind == "string":
        return f"String::from({rust_text(value)})"
    if kind == "list":
        return f"Vec::<{rust_type(inner)}>::from([{_items(rust_value, value, inner)}])"
    if kind == "map":
        entries = (f"({rust_value(key, 'string')}, {rust_value(item, inner)})" for key, item in value.items())
        return f"{rust_type(type_).replace('HashMap', 'HashMap::')}::from([{', '.join(entries)}])"
    return f"{_number(value, kind)}_{_RUST[kind]}" if kind != "bool" else json.dumps(value)


def rust_text(value: str) -> str:
    return _quoted(value, lambda code: f"\\u{{{code:x}}}")


def rust_argument(value: Any, type_: str) -> str:
    """Borrowed, as parameters are: `&str`, `&[T]`, `&[&str]`, `&HashMap<String, T>`."""
    kind, inner = type_parts(type_)
    if kind == "string":
        return rust_text(value)
    if type_ == "list<string>":
        return f"&Vec::<&str>::from([{', '.join(map(rust_text, value))}])"
    return f"&{rust_value(value, type_)}" if inner else rust_value(value, type_)


def java_type(type_: str) -> str:
    kind, inner = type_parts(type_)
    if not inner:
        return _JAVA[kind]
    return {"list": "java.util.List<{}>", "map": "java.util.Map<String, {}>"}[kind].format(java_type(inner))


def java_value(value: Any, type_: str) -> str:
    """Lists and maps are such as may be changed."""
    kind, inner = type_parts(type_)
    if kind == "string":
        return _quoted(value, lambda code: "".join(f"\\u{unit:04x}" for unit in _utf16(code)))
    if kind == "list":
        return (
            f"new java.util.ArrayList<{java_type(inner)}>(java.util.Arrays.asList({_items(java_value, value, inner)}))"
        )
    if kind == "map":
        entries = (
            f"java.util.Map.entry({java_value(key, 'string')}, {java_value(item, inner)})"
            for key, item in value.items()
        )
        made = f"java.util.Map.<String, {java_type(inner)}>ofEntries({', '.join(entries)})"
        return f"new java.util.TreeMap<String, {java_type(inner)}>({made})"
    return _number(value, kind)


def _utf16(code: int) -> list[int]:
    units = chr(code).encode("utf-16-be")
    return [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]


def cpp_type(type_: str) -> str:
    kind, inner = type_parts(type_)
    if not inner:
        return _CPP[kind]
    return {"list": "::std::vector<{}>", "map": "::std::map<::std::string, {}>"}[kind].format(cpp_type(inner))


def cpp_value(value: Any, type_: str) -> str:
    kind, inner = type_parts(type_)
    if kind == "string":
        # By octal digits of its UTF-8 bytes: there are always three, so what follows is not read as one of them.
        octal = _quoted(value, lambda code: "".join(f"\\{byte:03o}" for byte in chr(code).encode()))
        return f"::std::string({octal})"
    if kind == "list":
        return f"{cpp_type(type_)}{{{_items(cpp_value, value, inner)}}}"
    if kind == "map":
        entries = (f"{{{cpp_value(key, 'string')}, {cpp_value(item, inner)}}}" for key, item in value.items())
        return f"{cpp_type(type_)}{{{', '.join(entries)}}}"
    return _number(value, kind)
