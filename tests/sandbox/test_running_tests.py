"""A candidate passes its tests only by passing them."""

import pytest

from demiurgic_jax.sandbox.bubblewrap import why_unavailable
from demiurgic_jax.sandbox.programs import run_tests
from demiurgic_jax.sandbox.verdict import Limits, Verdict

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")


def run_python_tests(candidate: str, tests: str, limits: Limits | None = None) -> Verdict:
    return run_tests("python", candidate, tests, limits=limits)


TESTS = "assert double(2) == 4\nassert double('ab') == 'abab'\n"


def test_right_code_passes_and_wrong_code_fails():
    assert run_python_tests("def double(x):\n    return x * 2\n", TESTS).passed
    wrong = run_python_tests("def double(x):\n    return x * x\n", TESTS)
    assert wrong.status == "failed"
    assert "TypeError" in wrong.stderr
    assert run_python_tests("def double(x) return", TESTS).status == "failed"


def test_long_tests_and_candidates_arrive_whole():
    candidate = "table = " + repr(list(range(40_000))) + "\ndef double(x):\n    return x * 2\n"
    assert run_python_tests(candidate, "# " + "x" * 300_000 + "\n" + TESTS + "assert table[-1] == 39_999\n").passed


@pytest.mark.parametrize(
    "candidate",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "print('passed'); raise SystemExit",
        "def double(x):\n    import os\n    os._exit(0)\n",
        "def double(x):\n    raise SystemExit(0)\n",
        "import atexit, os\natexit.register(lambda: os._exit(0))\n",
        "import sys\nsys.excepthook = lambda *_: None\n",
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'passed')\n    except OSError: pass\nos._exit(0)\n",
        "import sys\nprint(sys.stdin.read())\nprint(open('/proc/self/fd/0').read())\nsys.exit(0)\n",
        "import os\nos.write = os._exit = lambda *_: 0\n",
        "import os\nif os.fork() == 0: os._exit(0)\nos._exit(0)\n",
    ],
)
def test_leaving_early_or_claiming_success_does_not_pass(candidate):
    verdict = run_python_tests(candidate, TESTS)
    assert verdict.status == "failed"
    assert "assert" not in verdict.stdout  # the tests cannot be read from the input


def test_a_candidate_that_replaces_builtins_can_still_pass_honestly():
    assert run_python_tests("import os\nos.write = os._exit = None\ndef double(x):\n    return x * 2\n", TESTS).passed


def test_endless_code_is_a_timeout_not_a_pass():
    verdict = run_python_tests("def double(x):\n    while True: pass\n", TESTS, limits=Limits(cpu_seconds=0.5))
    assert verdict.status == "timeout"


@pytest.mark.parametrize(
    ("candidate", "tests"),
    [
        ("def f(x):\n    yield from range(x)\n", "assert list(f(3)) == [0, 1, 2]"),
        ("def f(x):\n    while True:\n        yield x\n", "assert next(f(3)) == 3"),
        ("def f(x):\n    x.sort()\n", "a = [2, 1]\nassert f(a) is None and a == [1, 2]"),
        ("def f(g, x):\n    return g(x) + 1\n", "assert f(lambda y: y * 2, 3) == 7"),
        ("def f(x):\n    raise ValueError('no')\n", "try:\n    f(1)\n    raise AssertionError\nexcept ValueError as e:\n    assert str(e) == 'no'"),
        ("class Odd(Exception): pass\ndef f(x):\n    raise Odd(x)\n", "try:\n    f(1)\n    assert 0\nexcept Odd as e:\n    assert e.args == (1,)"),
        ("class P:\n    def __init__(self, x): self.x = x\n    def __add__(self, o): return P(self.x + o.x)\n    def __eq__(self, o): return self.x == o.x\n", "assert P(1) + P(2) == P(3) and P(1) != P(2) and P(4).x == 4"),
        ("import math\ndef f(x):\n    return math.pi * x, {1: {2}}, b'z', 1 + 2j, None\n", "assert f(1) == (math.pi, {1: {2}}, b'z', 1 + 2j, None)"),
        ("def f(x):\n    print('hello', x)\n", "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as out:\n    f(2)\nassert out.getvalue() == 'hello 2\\n'"),
        ("async def f(x):\n    return x\n", "import asyncio\nasync def go():\n    return await f(5)\nassert asyncio.run(go()) == 5"),
        ("def f(x):\n    return x\n", "def test_f():\n    assert f(1) == 1\n"),
        ("def f(x):\n    return x\n", "import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n        self.assertEqual(f(2), 2)\n"),
    ],
)  # fmt: skip
def test_what_tests_do_with_a_candidate_works_across_the_pipe(candidate, tests):
    verdict = run_tests("python", candidate, tests)
    assert verdict.passed, verdict.stderr
    assert not run_tests("python", "", tests).passed


@pytest.mark.parametrize("tests", ["", "import sys; sys.exit(0)", "def test_f():\n    assert double(1) == 3\n"])
def test_tests_that_check_nothing_or_fail_later_do_not_pass(tests):
    assert not run_tests("python", "def double(x):\n    return x * 2\n", tests).passed


def test_check_is_called_with_the_entry_point():
    tests = "def check(candidate):\n    assert candidate(2) == 4\n"
    assert run_tests("python", "def double(x):\n    return x * 2\n", tests, entry_point="double").passed
    assert not run_tests("python", "def double(x):\n    return x * 3\n", tests, entry_point="double").passed


@pytest.mark.parametrize(
    ("candidate", "tests"),
    [
        ("import unittest\ndef f(x):\n    raise unittest.SkipTest\n", "import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n        self.assertEqual(f(2), 4)\n"),
        ("def f(x):\n    raise StopIteration\n", "for result in map(f, [2]):\n    assert result == 4\n"),
    ],
)  # fmt: skip
def test_a_candidate_can_neither_skip_the_tests_nor_end_their_loops(candidate, tests):
    assert run_python_tests(candidate, tests).status == "failed"
    assert run_python_tests("def f(x):\n    return x * 2\n", tests).passed
