"""What gets through outside of the sandbox has no effect from within: nothing read, reached, changed or left."""

import os

import pytest

from demiurgic_jax.sandbox.bubblewrap import why_unavailable
from demiurgic_jax.sandbox.programs import run_program
from demiurgic_jax.sandbox.verdict import Limits, Verdict
from tests.sandbox.attacks import AS_ROOT, CONTAINED_ONLY, OTHER_LANGUAGES, REACHING, READING, python_attack
from tests.sandbox.conftest import here

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=f"no sandbox: {why_unavailable()}")
LIMITS = Limits(cpu_seconds=4, memory_bytes=512 << 20)
ANYBODY = READING | REACHING
ALL = ANYBODY | AS_ROOT | CONTAINED_ONLY


def attack(name: str, host, outside: bool = False) -> Verdict:
    return run_program(
        "python",
        python_attack(ALL[name]),
        stdin=host.told(),
        limits=LIMITS,
        run_untrusted_code_without_isolation=outside,
    )


def test_no_attack_has_an_effect(host, namespaces):
    for name in ALL:
        verdict = attack(name, host)
        assert verdict.stdout.endswith("DONE\n"), (name, verdict)  # it was carried out, to its end
        assert host.effects(verdict.stdout, verdict.stderr, verdict.reason) == [], (name, verdict)


@pytest.mark.parametrize("name", [*ANYBODY, *AS_ROOT])
def test_outside_of_the_sandbox_the_same_attack_gets_through(name, host):
    if os.geteuid() != 0 and (name in AS_ROOT or "another's" in name or "process" in name):
        pytest.skip("needs root's rights")
    verdict = attack(name, host, outside=True)
    assert host.effects(verdict.stdout) != [], verdict


def lines(host) -> str:
    return "\n".join(map(str, [host.secret, host.victim.pid, host.ports["ipv4"], host.left_at, host.socket_path]))


@pytest.mark.parametrize("language", here(OTHER_LANGUAGES))
def test_no_attack_in_another_language_has_an_effect(language, host, namespaces):
    verdict = run_program(language, OTHER_LANGUAGES[language], stdin=lines(host))
    assert verdict.stdout.endswith("DONE\n"), verdict
    assert verdict.stdout.count("refused") == 5
    assert host.effects(verdict.stdout, verdict.stderr) == []
    free = run_program(
        language, OTHER_LANGUAGES[language], stdin=lines(host), run_untrusted_code_without_isolation=True
    )
    assert free.stdout.endswith("DONE\n"), free
    assert free.stdout.count(host.canary) == 4
    assert sorted(host.reached) == ["ipv4", "unix"]
    assert [path.name for path in host.left()] == [host.mark]
