"""`--profile=START:COUNT` leaves a trace of these steps, and of no others."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.training.profiling import ProfileWindow, traced


def steps_traced(folder) -> list[int]:
    """The numbers of the steps in the trace."""
    (path,) = folder.glob("plugins/profile/*/*.trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return sorted(int(event["args"]["step_num"]) for event in events if "step_num" in event.get("args", {}))


def test_the_trace_holds_the_steps_of_the_window(tmp_path):
    double = jax.jit(lambda x: 2 * x)
    for _ in traced(((step, None) for step in range(6)), ProfileWindow(3, 2), tmp_path):
        double(jnp.ones(8)).block_until_ready()
    assert steps_traced(tmp_path) == [3, 4]
    (xplane,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert xplane.stat().st_size > 1000


def test_a_run_that_breaks_off_leaves_its_trace(tmp_path):
    steps = traced(((step, None) for step in range(6)), ProfileWindow(2, 4), tmp_path)
    for step, _ in steps:
        if step == 2:
            break
    steps.close()
    assert steps_traced(tmp_path)[:1] == [2]


def test_without_a_window_nothing_is_traced(tmp_path):
    assert [step for step, _ in traced(((step, None) for step in range(3)), None, tmp_path)] == [0, 1, 2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["10", "0:3", "3:0", "a:b", "1:2:3"])
def test_what_is_no_window_is_refused_with_an_example(text):
    with pytest.raises(UserError, match=rf"--profile={text} is no START:COUNT: .* e\.g\. --profile=10:3"):
        ProfileWindow.parse(text)


def test_steps_that_are_behind_the_run_or_beyond_it_are_refused():
    window = ProfileWindow.parse("10:3")
    window.require_ahead(9, 12)
    for made, steps in ((10, 20), (0, 11)):
        with pytest.raises(UserError, match=f"has made {made} of {steps} steps: profile steps from {made + 1} to"):
            window.require_ahead(made, steps)
