"""Whatever the OpenAPI description allows, and much that it does not: no failure of the server's, and no hang."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.server import serving

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
)
# A context of so few tokens lets an answer without a limit end soon.
CONTEXT = 48


@pytest.fixture(scope="module")
def root(config: ModelConfig, params: dict, tokenizer) -> Iterator[str]:
    small = dataclasses.replace(config, max_context=CONTEXT)
    with Engine(small, params, tokenizer, slots=8) as engine, serving(engine, "tiny") as url:
        yield url.removesuffix("/v1")
        assert (engine.active, engine.waiting) == (0, 0)


def ask(root: str, operation: APIOperation, mode: GenerationMode, cases: int, seen: Counter) -> None:
    """So many cases of one operation, those of the negative mode meant to be wrong; statuses counted."""

    @settings(
        max_examples=cases,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def every(case: schemathesis.Case) -> None:
        response = case.call(base_url=root, timeout=60)
        seen[operation.path, response.status_code] += 1
        case.validate_response(response, checks=list(CHECKS))

    every()


def storm(root: str, cases: int) -> Counter:
    """So many cases over all operations, and how often each route gave which status."""
    schema = schemathesis.openapi.from_url(f"{root}/openapi.json")
    operations = [operation.ok() for operation in schema.get_all_operations()]
    posts = [operation for operation in operations if operation.method == "post"]
    seen: Counter = Counter()
    for operation in operations:
        # There is nothing about the other routes that a body could get wrong.
        ask(root, operation, GenerationMode.POSITIVE, cases // (2 * len(posts)) if operation in posts else 1, seen)
        if operation in posts:
            ask(root, operation, GenerationMode.NEGATIVE, cases // (2 * len(posts)), seen)
    return seen


def test_a_few_hundred_cases_meet_no_failure_and_no_hang(root: str):
    seen = storm(root, 200)
    assert sum(seen.values()) >= 200
    assert max(status for _, status in seen) < 500
    for path in ("/v1/completions", "/v1/chat/completions", "/infill", "/tokenize", "/detokenize"):
        assert seen[path, 200] > 0
        assert seen[path, 400] > 0


@pytest.mark.full_size
def test_five_thousand_cases_meet_no_failure_and_no_hang(root: str):
    seen = storm(root, 5000)
    for (path, status), count in sorted(seen.items()):
        print(f"{count:6} {status} {path}")
    assert sum(seen.values()) >= 5000
    assert max(status for _, status in seen) < 500
