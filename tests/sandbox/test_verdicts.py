"""A candidate passes its tests only by passing them."""

import pytest

from demiurgic_jax.sandbox.bubblewrap import why_unavailable
from demiurgic_jax.sandbox.python import run_python_tests
from demiurgic_jax.sandbox.verdict import Limits

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")
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
    verdict = run_python_tests("def double(x):\n    while True: pass\n", TESTS, limits=Limits(wall_seconds=0.5))
    assert verdict.status == "timeout"
