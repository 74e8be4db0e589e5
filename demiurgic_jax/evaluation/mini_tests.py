"""demiurgic-mini's tests as programs, in the form that the sandbox's run_tests takes for each language."""

from collections.abc import Iterator
from typing import Any

from demiurgic_jax.evaluation.mini_candidates import Row, java_class
from demiurgic_jax.evaluation.mini_values import (
    cpp_type,
    cpp_value,
    go_value,
    java_value,
    python_value,
    rust_argument,
    rust_value,
    script_value,
    type_parts,
)

_TOLERANCE = 1e-9  # of the larger of 1 and the expected value


def write_tests(row: Row, candidate: str) -> str:
    """The tests of `row` for `candidate`, which only says (in Java) in what class the function is.

    A case that does not hold ends the program with an error whose message names the case by its number, from 1.
    """
    return _WRITERS[row["language"]](row, candidate)


def _cases(row: Row) -> Iterator[tuple[int, list[tuple[Any, str]], dict[str, Any]]]:
    for number, case in enumerate(row["tests"], 1):
        yield number, list(zip(case["args"], row["parameters"], strict=True)), case


def _within(value: float) -> str:
    return repr(_TOLERANCE * max(1.0, abs(value)))


def _python(row: Row, candidate: str) -> str:
    lines = []
    for number, args, case in _cases(row):
        call = f"{row['entry']}({', '.join(python_value(*each) for each in args)})"
        if "raises" in case:
            lines += ["try:", f"    {call}", f"except {case['raises']}:", "    pass", "else:"]
            lines += [f"    raise AssertionError('case {number} raised nothing')"]
            continue
        want = case["returns"]
        if row["returns"] == "float":
            held = f"abs({call} - {want!r}) <= {_within(want)}"
        else:
            same = "is" if want is None or want is True or want is False else "=="
            held = f"{call} {same} {python_value(want, row['returns'])}"
        lines.append(f"assert {held}, 'case {number}'")
    return "\n".join(lines) + "\n"


# Written out rather than assert.deepStrictEqual, for which 0 and -0, and objects of other prototypes, differ.
_SAME = """\
function sameValue(got, want) {
  if (got === null || want === null || typeof got !== 'object' || typeof want !== 'object') return got === want;
  if (Array.isArray(got) !== Array.isArray(want)) return false;
  const keys = Object.keys(want);
  return Object.keys(got).length === keys.length
    && keys.every((key) => Object.prototype.hasOwnProperty.call(got, key) && sameValue(got[key], want[key]));
}
function hold(number, held) { if (held !== true) throw new Error('case ' + number); }
function thrown(call) { try { call(); } catch (error) { return error.name; } return null; }
"""


def _script(row: Row, candidate: str) -> str:
    lines = [_SAME]
    for number, args, case in _cases(row):
        call = f"{row['entry']}({', '.join(script_value(*each) for each in args)})"
        if "raises" in case:
            held = f"thrown(() => {call}) === {script_value(case['raises'], 'string')}"
        elif row["returns"] == "float":
            held = f"Math.abs({call} - {case['returns']!r}) <= {_within(case['returns'])}"
        else:
            held = f"sameValue({call}, {script_value(case['returns'], row['returns'])})"
        lines.append(f"hold({number}, {held});")
    return "\n".join(lines) + "\n"


def _go(row: Row, candidate: str) -> str:
    kind, inner = type_parts(row["returns"])
    type_ = inner if kind in ("optional", "result") else row["returns"]
    lines = []
    for number, args, case in _cases(row):
        call = f"{row['entry']}({', '.join(go_value(*each) for each in args)})"
        wrong = f't.Fatalf("case {number}")'
        want: Any = case.get("returns")
        if "raises" in case:
            lines.append(f"if _, err := {call}; err == nil {{ {wrong} }}")
        elif kind == "optional" and want is None:
            lines.append(f"if _, ok := {call}; ok {{ {wrong} }}")
        else:
            got = {"optional": "got, ok", "result": "got, err"}.get(kind, "got")
            bad = {"optional": "!ok || ", "result": "err != nil || "}.get(kind, "")
            lines.append(f"if {got} := {call}; {bad}{_go_differs(want, type_)} {{ {wrong} }}")
    text = "\n\t".join(lines)
    imports = [name for name in ("math", "reflect") if f"{name}." in text]
    named = "".join(f'import "{name}"\n' for name in [*imports, "testing"])
    return f"package main\n\n{named}\nfunc TestMini(t *testing.T) {{\n\t{text}\n}}\n"


def _go_differs(want: Any, type_: str) -> str:
    value = go_value(want, type_)
    if type_ == "float":
        return f"!(math.Abs(got-{value}) <= {_within(want)})"
    if type_parts(type_)[1]:
        return f"!reflect.DeepEqual(got, {value})" if want else "len(got) != 0"
    return f"got != {value}"


def _rust(row: Row, candidate: str) -> str:
    kind, inner = type_parts(row["returns"])
    lines = []
    for number, args, case in _cases(row):
        call = f"{row['entry']}({', '.join(rust_argument(*each) for each in args)})"
        want: Any = case.get("returns")
        if "raises" in case:
            held = f"{call}.is_err()"
        elif row["returns"] == "float":
            held = f"({call} - {rust_value(want, 'float')}).abs() <= {_within(want)}"
        elif kind == "optional":
            held = f"{call} == " + ("None" if want is None else f"Some({rust_value(want, inner)})")
        elif kind == "result":
            held = f"{call} == Ok({rust_value(want, inner)})"
        else:
            held = f"{call} == {rust_value(want, row['returns'])}"
        lines.append(f'assert!({held}, "case {number}");')
    text = "\n        ".join(lines)
    return (
        f"#[cfg(test)]\nmod tests {{\n    use super::*;\n\n    #[test]\n    fn mini() {{\n        {text}\n    }}\n}}\n"
    )


def _java(row: Row, candidate: str) -> str:
    kind, inner = type_parts(row["returns"])
    type_ = inner if kind == "optional" else row["returns"]
    lines = []
    for number, args, case in _cases(row):
        call = f"{java_class(candidate)}.{row['entry']}({', '.join(java_value(*each) for each in args)})"
        want: Any = case.get("returns")
        if "raises" in case:
            lines.append(f"try {{ {call}; hold({number}, false); }} catch ({case['raises']} error) {{ }}")
        elif type_ == "float":
            lines.append(f"hold({number}, Math.abs({call} - ({java_value(want, type_)})) <= {_within(want)});")
        elif want is None:
            lines.append(f"hold({number}, {call} == null);")
        else:
            lines.append(f"hold({number}, java.util.Objects.equals({java_value(want, type_)}, {call}));")
    text = "\n        ".join(lines)
    return (
        "class Main {\n"
        '    static void hold(int number, boolean held) { if (!held) throw new AssertionError("case " + number); }\n'
        f"    public static void main(String[] args) {{\n        {text}\n    }}\n}}\n"
    )


_CPP_HEAD = """\
#include <cassert>
#include <cmath>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>
"""


def _cpp(row: Row, candidate: str) -> str:
    kind, inner = type_parts(row["returns"])
    lines = []
    for number, args, case in _cases(row):
        call = f"{row['entry']}({', '.join(cpp_value(*each) for each in args)})"
        want: Any = case.get("returns")
        if "raises" in case:
            caught = f"catch (const {case['raises']}&) {{ thrown = true; }}"
            lines.append(f'{{ bool thrown = false; try {{ {call}; }} {caught} assert(thrown && "case {number}"); }}')
            continue
        if row["returns"] == "float":
            held = f"::std::fabs({call} - ({cpp_value(want, 'float')})) <= {_within(want)}"
        elif kind == "optional":
            value = "::std::nullopt" if want is None else cpp_value(want, inner)
            held = f"{call} == ::std::optional<{cpp_type(inner)}>({value})"
        else:
            held = f"{call} == {cpp_value(want, row['returns'])}"
        lines.append(f'assert((({held})) && "case {number}");')
    text = "\n    ".join(lines)
    return f"{_CPP_HEAD}int main() {{\n    {text}\n    return 0;\n}}\n"


_WRITERS = {
    "python": _python,
    "javascript": _script,
    "typescript": _script,
    "go": _go,
    "rust": _rust,
    "java": _java,
    "cpp": _cpp,
}
