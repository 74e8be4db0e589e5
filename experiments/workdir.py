"""A run's folder: who owns it, which stages are finished, where each keeps its things.

WORKDIR/config.json            the config that owns the folder
        ledger.sqlite          the teacher's answers; no stage owns it, nothing ever removes it
        ledger-shard-I-of-N.sqlite   the same of a part of the requests, until tools.merge_ledgers
        STAGE/inputs.json      hash of what the stage is being made from
        STAGE/manifest.json    written when the stage is finished: inputs, outputs, seconds
        STAGE/…                what it made
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from demiurgic_jax.data.files import replacing
from demiurgic_jax.errors import UserError


def canonical_hash(value: Any) -> str:
    """SHA-256 (hex) of a JSON value, the same for equal values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that a kill leaves the old file or the new one."""
    with replacing(path) as file:
        file.write((json.dumps(value, indent=2, default=list) + "\n").encode())


@dataclass(frozen=True)
class Manifest:
    """What a finished stage leaves. `outputs` are figures and fingerprints; stages after it are made from them."""

    stage: str
    inputs_hash: str
    outputs: Mapping[str, Any]
    seconds: float


class Workdir:
    """Opens `path` for the config called `config_name`. UserError when another config owns it."""

    def __init__(self, path: Path, config_name: str, config: ConfigDict):
        self.path = path.absolute()
        self.path.mkdir(parents=True, exist_ok=True)
        owner_file = self.path / "config.json"
        if owner_file.exists():
            owner = _read_json(owner_file).get("name")
            if owner != config_name:
                raise UserError(
                    f"workdir {self.path} was written by --config={owner}, not {config_name}: "
                    f"give another --workdir, or --config={owner}"
                )
        elif any(self.path.iterdir()):
            raise UserError(f"workdir {self.path} is not empty and no run of ours wrote it: give another --workdir")
        mine = {"name": config_name, "config": config.to_dict()}
        # Where several processes open one workdir, the first has written it.
        if not owner_file.exists() or canonical_hash(_read_json(owner_file)) != canonical_hash(mine):
            write_json(owner_file, mine)

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.sqlite"

    def shard_ledger(self, shard: int, shards: int) -> Path:
        """The ledger of one of several processes that ask a part of the requests each."""
        return self.path / f"ledger-shard-{shard}-of-{shards}.sqlite"

    def folder(self, stage: str) -> Path:
        return self.path / stage

    def manifest(self, stage: str) -> Manifest | None:
        """The manifest of a finished stage, else None."""
        path = self.folder(stage) / "manifest.json"
        return Manifest(**_read_json(path)) if path.exists() else None

    def begin(self, stage: str, inputs: Mapping[str, Any], *, keep_replaced: bool) -> Path | None:
        """Makes the stage's folder ready, keeping what a killed run with equal inputs left in it.

        What other inputs made is removed, or with `keep_replaced` moved aside; the folder it was moved to
        comes back.
        """
        folder, wanted = self.folder(stage), canonical_hash(inputs)
        inputs_file = folder / "inputs.json"
        aside = None
        if folder.exists() and (not inputs_file.exists() or _read_json(inputs_file)["hash"] != wanted):
            if keep_replaced and inputs_file.exists():
                aside = self.path / f"{stage}.replaced-{_read_json(inputs_file)['hash'][:8]}"
                shutil.rmtree(aside, ignore_errors=True)
                folder.rename(aside)
            else:
                shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        write_json(inputs_file, {"hash": wanted, "inputs": inputs})
        return aside

    def finish(self, stage: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], seconds: float) -> Manifest:
        """Marks the stage finished."""
        manifest = Manifest(stage, canonical_hash(inputs), outputs, round(seconds, 2))
        write_json(self.folder(stage) / "manifest.json", vars(manifest))
        return manifest


def shard_ledgers(path: Path) -> list[Path]:
    """Every ledger that a shard has written."""
    return sorted(path.glob("ledger-shard-*-of-*.sqlite"))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}): remove its folder and run again") from error
