"""Several teachers, each with its share of the requests. Which one is asked follows from the request alone."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.distillation.request import request_key
from demiurgic_jax.errors import UserError


class Weighted(Protocol):
    """What a share of the requests can go to."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def weight(self) -> float: ...


T = TypeVar("T", bound=Weighted)


class Panel(Generic[T]):
    """Assigns requests to teachers in proportion to their weights.

    By weighted rendezvous hashing (Thaler & Ravishankar 1998; weights as in Schindelhauer & Schomaker 2005): when a
    teacher is added, removed or reweighted, only requests that come to or go from it move, so that answers that were
    paid for stay answers. UserError for weights or names that cannot work.
    """

    def __init__(self, teachers: Sequence[T]):
        self.teachers = tuple(teachers)
        names = [teacher.name for teacher in teachers]
        if len(set(names)) < len(names):
            raise UserError(
                f"two teachers are called alike ({', '.join(names)}): give them names in config.teacher.others"
            )
        if not any(teacher.weight > 0 for teacher in teachers) or any(teacher.weight < 0 for teacher in teachers):
            raise UserError(
                "the teachers' weights must be 0 or more, and one of them above 0: fix config.teacher.weight"
            )

    def teacher_of(self, request: CompletionRequest) -> T:
        """Who is asked."""
        if len(self.teachers) == 1:
            return self.teachers[0]
        content = json.dumps(request.to_dict(), sort_keys=True)
        return max(self.teachers, key=lambda teacher: _score(teacher, content))

    def key(self, request: CompletionRequest) -> str:
        """The ledger's key of the request."""
        return request_key(self.teacher_of(request).model, request)


def _score(teacher: Weighted, content: str) -> float:
    if teacher.weight == 0:
        return -math.inf
    digest = hashlib.sha256(f"{teacher.name}\0{content}".encode("ascii", "backslashreplace")).digest()
    uniform = (int.from_bytes(digest[:8], "big") + 0.5) / 2**64
    return teacher.weight / -math.log(uniform)
