"""JSON-lines files, written whole or not at all."""

import errno
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from demiurgic_jax.errors import UserError


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes one object a line, keys sorted, and returns their number. `path` has its old content or the new one,
    never a part. Raises UserError where the disk is full."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"the disk of {path.parent} is full: free some space and run again, nothing is lost") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers (from 1) and objects. Raises UserError naming the file and the line."""
    path = Path(path)
    try:
        file = path.open(encoding="utf-8", newline="\n")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the stage that writes it first") from None
    with file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{path} line {number} is not JSON ({error.msg}): remove the file and write it again"
                ) from error
            if not isinstance(row, dict):
                raise UserError(f"{path} line {number} is not a JSON object: remove the file and write it again")
            yield number, row
