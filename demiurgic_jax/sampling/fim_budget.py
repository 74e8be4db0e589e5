"""A fill-in-the-middle prompt made to fit: what is before the cursor, what is behind it, and other files share the
room, and each is cut between lines."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from demiurgic_jax.data.completer import UnanswerableError
from demiurgic_jax.data.fim_families import FimFile, FimFormat

# Of the room; what one does not need goes to the others, in this order.
PREFIX_SHARE, SUFFIX_SHARE, FILES_SHARE = 0.5, 0.2, 0.3
# No piece of a vocabulary stands for more characters: text beyond that many per token cannot fit and is not encoded.
LONGEST_PIECE = 256

Encode = Callable[[str], list[int]]


class FittedFim(NamedTuple):
    """Prompt ids, and whether something had to be left out."""

    tokens: list[int]
    truncated: bool


def fit_fim(form: FimFormat, prefix: str, suffix: str, files: Sequence[FimFile], room: int) -> FittedFim:
    """At most `room` tokens. The prefix keeps its end and the suffix its beginning; of the files, the last come first,
    whole as long as they fit, and the one after them keeps its beginning.

    Raises UnanswerableError where the room is too small for the pieces around the parts.
    """
    frame = len(form.prompt([], []))
    if room < frame:
        raise UnanswerableError(f"there is room for {room} tokens, too few for a fill-in-the-middle: ask for less")
    room -= frame
    near = prefix[max(len(prefix) - room * LONGEST_PIECE, 0) :]
    behind = suffix[: room * LONGEST_PIECE]
    prefix_ids, suffix_ids = form.encode(near), form.encode_inside(behind)
    blocks = [form.file_block(file._replace(text=file.text[: room * LONGEST_PIECE])) for file in files]
    # What a format writes around other files counts with them.
    around = len(form.prompt([], [], blocks)) - frame - sum(map(len, blocks))
    wanted = (len(prefix_ids), len(suffix_ids), sum(map(len, blocks)) + around)
    granted = _split(room, wanted, (PREFIX_SHARE, SUFFIX_SHARE, FILES_SHARE))
    if granted[0] < wanted[0]:
        prefix_ids = last_lines(form.encode, near, granted[0])
    if granted[1] < wanted[1]:
        suffix_ids = first_lines(form.encode_inside, behind, granted[1])
    if granted[2] < wanted[2]:
        blocks = _last_blocks(form, files, blocks, granted[2] - around)
    cut = granted != wanted or len(near) < len(prefix) or len(behind) < len(suffix)
    return FittedFim(form.prompt(prefix_ids, suffix_ids, blocks), cut)


def last_lines(encode: Encode, text: str, room: int) -> list[int]:
    """Ids of the last whole lines of `text` that fit into `room` tokens; of a last line that does not, its end."""
    text = text[max(len(text) - room * LONGEST_PIECE, 0) :]
    if len(ids := encode(text)) <= room:
        return ids
    starts = [0, *(i + 1 for i, character in enumerate(text) if character == "\n")]
    fitting = _longest(len(starts), lambda lines: len(encode(text[starts[-lines] :])) <= room)
    return encode(text[starts[-fitting] :]) if fitting else ids[len(ids) - room :]


def first_lines(encode: Encode, text: str, room: int) -> list[int]:
    """Ids of the first whole lines of `text` that fit into `room` tokens; of a first line that does not, its
    beginning."""
    text = text[: room * LONGEST_PIECE]
    if len(ids := encode(text)) <= room:
        return ids
    ends = [i + 1 for i, character in enumerate(text) if character == "\n"]
    fitting = _longest(len(ends), lambda lines: len(encode(text[: ends[lines - 1]])) <= room)
    return encode(text[: ends[fitting - 1]]) if fitting else ids[:room]


def _longest(most: int, fits: Callable[[int], bool]) -> int:
    """The greatest count in 0..most that fits, when more never fits better."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _last_blocks(form: FimFormat, files: Sequence[FimFile], blocks: Sequence[list[int]], room: int) -> list[list[int]]:
    """The last of `blocks` that fit, and of the file before them its first lines."""
    kept: list[list[int]] = []
    for file, block in zip(reversed(files), reversed(blocks), strict=True):
        if len(block) > room:
            return [*_beginning(form, file, room), *kept]
        kept.insert(0, block)
        room -= len(block)
    return kept


def _beginning(form: FimFormat, file: FimFile, room: int) -> list[list[int]]:
    """The block of as many first lines as fit; none where not even one does."""
    lines = file.text[: max(room, 0) * LONGEST_PIECE].splitlines(keepends=True)

    def block(count: int) -> list[int]:
        return form.file_block(file._replace(text="".join(lines[:count])))

    fitting = _longest(len(lines), lambda count: len(block(count)) <= room)
    return [block(fitting)] if fitting else []


def _split(room: int, wanted: Sequence[int], shares: Sequence[float]) -> tuple[int, ...]:
    """Room for each that wants some: its share at least, and of what others leave, the first takes first."""
    granted = [min(want, int(room * share)) for want, share in zip(wanted, shares, strict=True)]
    for index, want in enumerate(wanted):
        granted[index] += min(want - granted[index], room - sum(granted))
    return tuple(granted)
