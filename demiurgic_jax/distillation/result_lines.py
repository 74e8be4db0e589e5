"""Files of JSON lines, as batch APIs give results."""

import json
from collections.abc import Iterator
from typing import Any


def json_lines(content: bytes) -> Iterator[dict[str, Any]]:
    """The objects in the lines, one at a time. A line that is none is left out: what it was about will be missed."""
    start = 0
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        try:
            line = json.loads(content[start:end])
        except ValueError:
            line = None
        if isinstance(line, dict):
            yield line
        start = end + 1
