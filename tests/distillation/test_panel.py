"""Several teachers: who is asked follows from the request, in proportion, and moves as little as it can."""

from collections import Counter
from dataclasses import dataclass

import pytest

from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.distillation.panel import Panel
from demiurgic_jax.distillation.request import in_shard, request_key
from demiurgic_jax.errors import UserError

REQUESTS = [CompletionRequest(prompt=str(number)) for number in range(4000)]


@dataclass(frozen=True)
class Named:
    name: str
    model: str
    weight: float


def test_shares_follow_the_weights_and_a_new_teacher_takes_only_its_own():
    two = Panel([Named("a", "m", 3.0), Named("b", "n", 1.0), Named("off", "o", 0.0)])
    before = [two.teacher_of(request).name for request in REQUESTS]
    shares = Counter(before)
    assert shares["a"] == pytest.approx(3000, rel=0.05)
    assert shares["a"] + shares["b"] == 4000
    three = Panel([*two.teachers, Named("c", "p", 1.0)])
    after = [three.teacher_of(request).name for request in REQUESTS]
    assert {new for old, new in zip(before, after, strict=True) if old != new} == {"c"}
    assert two.key(REQUESTS[0]) == request_key({"a": "m", "b": "n"}[before[0]], REQUESTS[0])


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [([("a", 1.0), ("a", 1.0)], "called alike"), ([("a", 0.0)], "above 0"), ([("a", 1.0), ("b", -1.0)], "0 or more")],
)
def test_what_cannot_be_shared_out_is_refused(weights, sentence):
    with pytest.raises(UserError, match=sentence):
        Panel([Named(name, "m", weight) for name, weight in weights])


def test_every_request_is_in_exactly_one_shard():
    keys = [request_key("m", request) for request in REQUESTS]
    parts = [{key for key in keys if in_shard(key, part, 3)} for part in range(3)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(keys)
    assert min(map(len, parts)) > 1200
