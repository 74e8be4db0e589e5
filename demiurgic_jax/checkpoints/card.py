"""What a checkpoint says of itself besides its arrays: `card/metadata` in its folder, JSON with a checksum."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import ModelConfig


@dataclass(frozen=True)
class Card:
    """`model` and `data_fingerprint` say what was trained on what, `provenance` by whom.

    The trainer adds what its next step depends on besides the arrays: the `phase` and the step `phase_start` that it
    began after, the inclusive ranges `skipped` of the phase's data steps, and the losses of the last steps.
    `heldout` are the figures of this very step, if it was evaluated. `tokenizer_fingerprint` and `digests` (by item,
    by path of the array; checkpoints/digest.py) are filled in when the checkpoint is saved.
    """

    model: ModelConfig
    data_fingerprint: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    phase: str = ""
    phase_start: int = 0
    skipped: Sequence[tuple[int, int]] = ()
    recent_losses: Sequence[float] = ()
    heldout: Mapping[str, float] = field(default_factory=dict)
    tokenizer_fingerprint: str = ""
    digests: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with a checksum over them; `from_dict` reads them back."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values | {"checksum": _checksum(values)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> "Card":
        """UserError when the card is of something else; ValueError when its checksum fails."""
        if not {"model", "checksum"} & values.keys():
            raise UserError(f"{where} does not say which model it holds: it is not a checkpoint of this project")
        values = dict(values)
        if values.pop("checksum", None) != _checksum(values):
            raise ValueError("the checksum of its card fails")
        if unknown := sorted(values.keys() - {each.name for each in fields(cls)}):
            raise UserError(f"{where} was written by a newer version, its card has the unknown field {unknown[0]!r}")
        values["model"] = ModelConfig.from_dict(values["model"], where)
        values["skipped"] = tuple((first, last) for first, last in values["skipped"])
        values["recent_losses"] = tuple(values["recent_losses"])
        return cls(**values)


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
