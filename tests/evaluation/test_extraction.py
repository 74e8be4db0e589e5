"""Code is found in what models write around it."""

import pytest

from demiurgic_jax.evaluation.extraction import code_of, cut_after_block, cut_at, defines


def test_the_block_that_defines_the_function_is_taken_whatever_stands_before():
    answer = "Install it:\n```bash\npip install x\n```\nThen:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."
    assert code_of(answer, "python", "add") == "def add(a, b):\n    return a + b\n"


def test_without_it_the_first_block_in_the_language_is_taken():
    answer = "```\nfirst\n```\n```go\nfunc F() {}\n```"
    assert code_of(answer, "go", "G") == "func F() {}\n"
    assert code_of(answer, "rust") == "first\n"


def test_an_answer_that_was_cut_off_in_its_block_still_has_code():
    assert code_of("Sure!\n```python\ndef f():\n    return 1", "python", "f") == "def f():\n    return 1"


def test_an_answer_without_fences_is_code():
    assert code_of("    return 1\n", "python", "f") == "    return 1\n"


def test_fences_inside_of_longer_fences_and_indented_ones_are_understood():
    assert code_of("````md\n```\nx\n```\n````", "python") == "```\nx\n```\n"
    assert code_of("1. so:\n   ```js\n   f()\n   ```\n", "javascript") == "   f()\n"


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "async def run(x):\n    pass"),
        ("python", "run = lambda x: x"),
        ("javascript", "const run = (x) => x"),
        ("typescript", "function run<T>(x: T): T { return x }"),
        ("go", "func run(x int) int { return x }"),
        ("rust", "pub fn run(x: i32) -> i32 { x }"),
        ("java", "public static List<String> run(int x) { return null; }"),
        ("cpp", "vector<int> run(int x) {\n return {}; }"),
    ],
)
def test_definitions_are_seen_in_every_language(language, code):
    assert defines(code, "run", language)
    assert not defines(code, "ru", language)
    assert not defines("run(3);\nprint(run(4))", "run", language)


def test_completions_end_where_the_function_does():
    assert cut_at("    return 1\n\ndef g():\n", ("\nclass", "\ndef")) == "    return 1\n"
    assert cut_after_block("\n    return 1\nprint(2)\n", "python") == "\n    return 1"
    assert cut_after_block(" if (x) { y(); }\n}\nint main() {}", "cpp") == " if (x) { y(); }\n}"
    assert cut_after_block("  return 1;\n  }\n}\nclass B {}", "java", 2) == "  return 1;\n  }\n}"
