"""Cases of what code does: which functions have some, and what they tell apart."""

import pytest

from demiurgic_jax.curation.seeds import Seed, cut_seeds
from demiurgic_jax.curation.sources import SourceFile
from demiurgic_jax.distillation.tasks.behaviour import Case, cases_of, check_cases, seed_signature
from demiurgic_jax.distillation.tasks.calling import whole_program
from demiurgic_jax.distillation.tasks.plain_data import same
from demiurgic_jax.sandbox.bubblewrap import why_unavailable
from demiurgic_jax.sandbox.toolchains import why_missing

needs_bubblewrap = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")


def seed(text: str, language: str = "python") -> Seed:
    cut = cut_seeds([SourceFile("file", text, language, "MIT", "0")], min_lines=1)
    return next(each for each in cut if each.kind in ("function", "method"))


@pytest.mark.parametrize(
    ("language", "text", "kinds"),
    [
        ("python", "def f(a: int, b: 'str', c: list[float], d=4): return a\n", ["int", "str", "list"]),
        ("python", "def f(values, key): return key\n", ["any", "any"]),
        ("python", "def f(a: dict[str, int]): return a\n", None),
        ("python", "def f(self, *rest): return self\n", ["any"]),
        ("python", "def f(): return 1\n", None),
        ("python", "async def f(a): return a\n", None),
        ("javascript", "const f = (a, b = 2) => {\n  return a;\n};\n", ["any"]),
        ("javascript", "function f({a}) {\n  return a;\n}\n", None),
        ("typescript", "function f(a: string[], b?: number): number {\n  return 1;\n}\n", ["list"]),
        ("typescript", "function f(a: Map<string, number>): number {\n  return 1;\n}\n", None),
        ("go", "package p\n\nfunc F(a, b uint, c []string) int {\n\treturn 1\n}\n", ["unsigned", "unsigned", "list"]),
        ("go", "package p\n\nfunc (t *T) F(a int) int {\n\treturn 1\n}\n", None),
        ("go", "package p\n\nfunc F(a ...int) int {\n\treturn 1\n}\n", None),
        ("rust", "fn f<'a>(a: &'a str, b: Vec<Vec<u8>>) -> usize {\n    1\n}\n", None),
        ("rust", "fn f(a: &'static str, b: &[f64]) -> usize {\n    1\n}\n", ["str", "list"]),
        ("rust", "fn f(a: &mut Vec<i32>) -> usize {\n    1\n}\n", None),
        ("java", "class C {\n  int f(String[] a, List<Integer> b) {\n    return 1;\n  }\n}\n", ["list", "list"]),
        ("cpp", "int f(const std::vector<std::string>& a, size_t b) {\n  return 1;\n}\n", ["list", "unsigned"]),
        ("cpp", "int f(std::vector<int>& a) {\n  return 1;\n}\n", None),
        ("cpp", "int f(int *a) {\n  return 1;\n}\n", None),
    ],
)  # fmt: skip
def test_signatures_hold_plain_data_or_are_none(language, text, kinds):
    signature = seed_signature(seed(text, language))
    assert (signature and [each.kind for each in signature.parameters]) == kinds


@needs_bubblewrap
def test_a_function_without_types_is_called_with_what_it_is_for():
    words = seed("def count(words, text):\n    return sum(word in text.split() for word in words)\n")
    cases = cases_of(words)
    assert len(cases) == 16
    assert all(isinstance(each, str) for case in cases for each in (case.arguments[1], *case.arguments[0]))
    assert check_cases(cases, "python", words.code, "count") == "passed"
    wrong = words.code.replace("text.split()", "text")
    assert check_cases(cases, "python", wrong, "count") == "failed"


@needs_bubblewrap
@pytest.mark.parametrize(
    "body",
    [
        "    import random\n    return random.random() + n\n",
        "    return None\n",
        "    return 4\n",
        "    return object()\n",
        "    return undefined_name + n\n",
        "    while True:\n        n = n + 1\n",
    ],
)
def test_code_that_says_nothing_has_no_cases(body):
    assert cases_of(seed(f"def f(n: int):\n{body}")) == ()


@needs_bubblewrap
def test_what_depends_on_the_order_of_a_set_is_no_case():
    unordered = seed("def f(words: list[str]):\n    return list({*words, 'p', 'q', 'r', 's', 't', 'u', 'v', 'w'})\n")
    assert cases_of(unordered) == ()


def test_rust_code_may_bring_in_what_its_file_does():
    imports = "use std::collections::{HashMap, HashSet};\nuse std::fmt;\n"
    program, _ = whole_program("rust", imports, "use std::collections::HashMap;\nfn f() {}\n")
    assert program == "use std::fmt;\nuse std::collections::HashMap;\nfn f() {}\n"


@needs_bubblewrap
def test_what_is_expected_is_not_in_the_sandbox():
    """A candidate that reads all that it can reach, the tests' source among it, finds arguments but no results."""
    cases = [Case([3], 1234567), Case([4], 7654321)]
    spying = "def f(n):\n    import gc, sys\n    found = [o for o in gc.get_objects() if isinstance(o, (str, list))]\n"
    spying += "    return max([x for x in map(str, found) if '1234567' in x and 'gc' not in x] or [0])\n"
    assert check_cases(cases, "python", spying, "f") == "failed"
    assert check_cases(cases, "python", "def f(n):\n    return {3: 1234567, 4: 7654321}[n]\n", "f") == "passed"
    for leaving in ("import os\ndef f(n):\n    os._exit(0)\n", "import sys\ndef f(n):\n    sys.exit(0)\n"):
        assert check_cases(cases, "python", leaving, "f") == "failed"
    assert check_cases(cases, "python", "def f(a, b):\n    return a\n", "f") == "failed"
    assert check_cases([], "python", "def f(a):\n    return a\n", "f") == "none"


def test_results_are_equal_to_nine_digits_and_a_truth_value_is_no_number():
    assert same(1, 1.0)
    assert same([0.1 + 0.2, "a"], [0.3, "a"])
    assert same({"a": [1]}, {"a": [1.0]})
    assert not same(True, 1)
    assert not same([1], [1, 2])
    assert not same("1", 1)
    assert not same(0.300001, 0.3)
    assert not same(None, [])


ODD = {
    "python": "def f(a, n):\n    return a + chr(n) + '\\n\"\\\\é'\n",
    "javascript": "function f(a, n) { return a + String.fromCharCode(n) + '\\n\"\\\\é'; }\n",
    "typescript": "function f(a: string, n: number): string { return a + String.fromCharCode(n) + '\\n\"\\\\é'; }\n",
    "go": 'func f(a string, n int) string { return a + string(rune(n)) + "\\n\\"\\\\é" }\n',
    "rust": 'fn f(a: &str, n: u32) -> String { format!("{}{}\\n\\"\\\\é", a, char::from_u32(n).unwrap()) }\n',
    "java": 'class C { static String f(String a, int n) { return a + (char) n + "\\n\\"\\\\é"; } }\n',
    "cpp": 'std::string f(const std::string& a, int n) { return a + char(n) + "\\n\\"\\\\é"; }\n',
}


@needs_bubblewrap
@pytest.mark.parametrize(
    "language", [pytest.param(each, marks=[] if each in ("python", "javascript") else pytest.mark.slow) for each in ODD]
)
def test_any_text_comes_back_whole_from_every_language(language):
    if missing := why_missing(language):
        pytest.skip(missing)
    cases = [Case(['say "x"\t\\', 1], 'say "x"\t\\\x01\n"\\é'), Case(["", 65], 'A\n"\\é')]
    assert check_cases(cases, language, ODD[language], "f") == "passed"
    assert check_cases([*cases, Case(["", 66], "b")], language, ODD[language], "f") == "failed"
