"""What the batch APIs have in common: half the price, and the answers within a day."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from demiurgic_jax.data.completer import Completion, CompletionRequest

# Batches cost half of what the same requests cost one by one, at both providers.
PRICE_FACTOR = 0.5
# A whole batch on its way up or down.
TRANSFER_SECONDS = 3600.0
# Our clock and the provider's may differ by so much.
CLOCK_SECONDS = 600.0


@dataclass(frozen=True)
class Standing:
    """Where a batch is at the provider: `done` of its requests, and whether all have `ended` so that results can be
    fetched. `cut_short` says why some were not asked ("expired", "cancelled"); `refused`, why none was; `too_much`,
    that this was for the amount that is in the provider's queue."""

    ended: bool
    done: int
    cut_short: str = ""
    refused: str = ""
    too_much: bool = False


@dataclass(frozen=True)
class Sought:
    """A batch in the provider's list: its `id` where it is there; else whether it is `sure` that it is not."""

    id: str | None
    sure: bool


class BatchApi(Protocol):
    """The batch API of one teacher. Methods that ask raise what `HttpTeacher.send` and `decoded` raise."""

    most_requests: int
    most_bytes: int

    def kind(self, request: CompletionRequest) -> str:
        """Only requests of one kind can be in one batch."""

    def line(self, custom_id: str, request: CompletionRequest) -> bytes:
        """The request's part of a batch. Raises RequestRefusedError for what the API has no way to say."""

    async def prepare(self, tag: str, kind: str, lines: Sequence[bytes]) -> bytes:
        """What `create` sends. Costs nothing, and may be repeated."""

    async def create(self, content: bytes) -> str:
        """From here on the batch may be billed. Its id."""

    async def find(self, tag: str, custom_ids: set[str], since: float, known: set[str]) -> Sought:
        """The batch of `tag`, or with these `custom_ids`, sent at `since` (Unix time), none of those `known`."""

    async def standing(self, batch_id: str) -> Standing: ...

    def results(self, batch_id: str) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        """Custom ids and results, in any order; lines that are no results are left out."""

    def read(self, request: CompletionRequest, result: Mapping[str, Any]) -> Completion:
        """The completion in a result; BusyError, AnswerLostError or RequestRefusedError where there is none."""


class Endpoint(Protocol):
    """What of an HttpTeacher a batch API uses."""

    base_url: str
    model: str

    async def send(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> httpx.Response: ...
    def whole(self, response: httpx.Response) -> bytes: ...
    def decoded(self, response: httpx.Response) -> dict[str, Any]: ...
