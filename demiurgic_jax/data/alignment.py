"""A teacher's distributions told in a student's tokens, where the two cut the same text at different bytes.

The teacher's distribution of its next token is known where one of its tokens ends. At a place where the student's next
token begins:

- If a teacher's token ends there too, each of the teacher's entries counts for the student's token that its text begins
  with. The entry that the text took counts for the token that the text took.
- If the student's token goes on beyond the teacher's, its probability is the product along the teacher's tokens that
  spell it (chain rule), the last factor being all entries that begin with the bytes still missing; it is taken off the
  entry with which that path begins.
- If the place is inside of a teacher's token, its entries that begin with the bytes already there are what is left, as
  shares of what could still come: them, and the teacher's rest, of which no one knows how much begins so. Where more
  than half is unknown the place has no teacher.

What has no token, and what the teacher did not store, stays in the rest, so entries and rest are 1 at every place.

n student's tokens, m teacher's tokens, K entries of the teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.data.vocabulary_map import NONE, VocabularyMap


@dataclass(frozen=True)
class Reading:
    """One document as both read it. Ends are offsets into `stream`, the text's bytes, in which a marker that both have
    is one byte that no text has. A marker that the teacher lacks is nowhere in it."""

    stream: bytes
    student: np.ndarray  # int [n]
    student_ends: np.ndarray  # int [n]
    readable: np.ndarray  # bool [n]: the teacher has read this token too
    teacher: np.ndarray  # int32 [m]
    teacher_ends: np.ndarray  # int [m]


class TeacherPieces(Protocol):
    """What must be known of the teacher's vocabulary: the bytes of each id, the student's id that they begin with (NONE
    for what it cannot spell), and how the student begins any bytes."""

    @property
    def source_bytes(self) -> Sequence[bytes]: ...
    @property
    def first(self) -> np.ndarray: ...
    def first_piece(self, content: bytes, /) -> int: ...


class Aligned(NamedTuple):
    """Of each of the student's tokens the distribution of the one that follows; id 0 and probability 0 are unused."""

    ids: np.ndarray  # int32 [n, E]
    probabilities: np.ndarray  # float64 [n, E]
    has_teacher: np.ndarray  # bool [n]

    def likeliest(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The `k` likeliest entries of each place, [n, k]: ids, and natural log-probabilities, -inf where unused."""
        used = (self.probabilities > 0) & self.has_teacher[:, None]
        return likeliest_first(self.ids, np.where(used, np.log(np.where(used, self.probabilities, 1)), -np.inf), k)


def likeliest_first(ids: np.ndarray, logprobs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of entries [n, K] the `k` likeliest of each row."""
    order = np.argsort(-logprobs, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(logprobs, order, axis=1)


MARKER = b"\xff"


def read_both(tokens: np.ndarray, to_student: VocabularyMap, to_teacher: VocabularyMap, *, bos: bool) -> Reading:
    """The document of the student's `tokens` as the teacher reads it, with its own BOS in front if it wants one.

    Bytes that are no whole UTF-8 (the cut end of a document), and all that the teacher's tokenizer would alter, are
    not read by the teacher.
    """
    teacher, student = to_teacher.target, to_teacher.source
    parts: list[bytes] = []
    ends, readable = np.zeros(len(tokens), np.int64), np.ones(len(tokens), bool)
    ids: list[int] = []
    teacher_ends: list[int] = []
    at = start = 0
    run: list[int] = []

    def close_run() -> None:
        """The teacher reads the text since the last marker."""
        text = b"".join(parts)[start:at]
        spelt, spelt_ends = _spelt(teacher, to_student, text)
        ids.extend(spelt)
        teacher_ends.extend(start + end for end in spelt_ends)
        known = start + (spelt_ends[-1] if spelt_ends else 0)
        for number in run:
            readable[number] = ends[number] <= known

    special = teacher.special.bos
    if bos and special is not None and not (len(tokens) and to_teacher.reserved.get(int(tokens[0])) == special):
        ids.append(special)
        teacher_ends.append(0)
    for number, token in enumerate(map(int, tokens)):
        if token in to_teacher.source_reserved:
            close_run()
            run, start = [], at
            counterpart = to_teacher.reserved.get(token)
            if counterpart is None:
                readable[number] = False
            else:
                parts.append(MARKER)
                at = start = at + 1
                ids.append(counterpart)
                teacher_ends.append(at)
        else:
            content = student.token_bytes(token)
            parts.append(content)
            at += len(content)
            run.append(number)
        ends[number] = at
    close_run()
    return Reading(
        b"".join(parts), np.asarray(tokens), ends, readable, np.array(ids, np.int32), np.array(teacher_ends, np.int64)
    )


def _spelt(teacher: Tokenizer, to_student: VocabularyMap, content: bytes) -> tuple[list[int], list[int]]:
    """The teacher's tokens for as much of `content` as is whole UTF-8, and where they end."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        text = content[: error.start].decode()
    spelt: list[int] = []
    ends: list[int] = []
    at = 0
    for token in teacher.encode(text):
        piece = to_student.source_bytes[token]
        # Some tokenizers put a space before the text.
        if at == 0 and piece.startswith(b" ") and not content.startswith(b" "):
            piece = piece[1:]
        if content[at : at + len(piece)] != piece:
            break
        at += len(piece)
        spelt.append(token)
        ends.append(at)
    return spelt, ends


def align(
    reading: Reading, logprobs: np.ndarray, ids: np.ndarray, top_logprobs: np.ndarray, to_student: TeacherPieces
) -> Aligned:
    """The teacher's entries as the student's.

    Of each teacher's token: `logprobs` [m] of the one that follows, and its K likeliest, `ids` and `top_logprobs`
    [m, K], -inf where unused.
    """
    probabilities = np.exp(top_logprobs.astype(np.float64))
    n, K = len(reading.student), ids.shape[1]
    out_ids, out = np.zeros((n, K + 1), np.int32), np.zeros((n, K + 1))
    # The teacher's token that covers the byte at which the student's next token begins.
    covering = np.searchsorted(reading.teacher_ends, reading.student_ends, side="right")
    has_teacher = np.zeros(n, bool)
    has_teacher[:-1] = (covering[:-1] > 0) & (covering[:-1] < len(reading.teacher)) & reading.readable[1:]
    places = np.flatnonzero(has_teacher)
    tokens = covering[places]
    begins = reading.teacher_ends[tokens - 1] == reading.student_ends[places]
    within = reading.teacher_ends[tokens] >= reading.student_ends[places + 1]
    plain = begins & within
    _whole_pieces(reading, places[plain], tokens[plain], ids, probabilities, to_student, out_ids, out)
    for place, token in zip(places[~plain].tolist(), tokens[~plain].tolist(), strict=True):
        spread = _spread(reading, place, token, logprobs, ids, probabilities, to_student)
        has_teacher[place] = bool(spread)
        for column, (student_id, mass) in enumerate(sorted(spread.items(), key=lambda entry: -entry[1])[: K + 1]):
            out_ids[place, column], out[place, column] = student_id, mass
    has_teacher &= out.any(axis=1)
    return Aligned(out_ids, out, has_teacher)


def _whole_pieces(
    reading: Reading,
    places: np.ndarray,
    tokens: np.ndarray,
    ids: np.ndarray,
    probabilities: np.ndarray,
    to_student: TeacherPieces,
    out_ids: np.ndarray,
    out: np.ndarray,
) -> None:
    """Places where both begin a token, and the teacher's reaches at least as far."""
    entries = ids[tokens - 1]
    pieces = np.where(
        entries == reading.teacher[tokens][:, None], reading.student[places + 1][:, None], to_student.first[entries]
    )
    masses = np.where(pieces == NONE, 0.0, probabilities[tokens - 1])
    # Several of the teacher's entries may begin with one of the student's tokens: their masses are added up.
    order = np.argsort(pieces, axis=1, kind="stable")
    pieces, masses = np.take_along_axis(pieces, order, 1), np.take_along_axis(masses, order, 1)
    group = np.cumsum(np.diff(pieces, axis=1, prepend=pieces[:, :1] - 1) != 0, axis=1) - 1
    rows = np.broadcast_to(places[:, None], pieces.shape)
    np.add.at(out, (rows, group), masses)
    out_ids[rows, group] = np.where(pieces == NONE, 0, pieces)


def _spread(
    reading: Reading,
    place: int,
    token: int,
    logprobs: np.ndarray,
    ids: np.ndarray,
    probabilities: np.ndarray,
    to_student: TeacherPieces,
) -> dict[int, float]:
    """Student's id → probability at `place`, inside of the teacher's `token` or at its beginning; nothing where too
    little is known."""
    begin, end = int(reading.student_ends[place]), int(reading.student_ends[place + 1])
    there = reading.stream[int(reading.teacher_ends[token - 1]) : begin]
    target, taken = int(reading.student[place + 1]), int(reading.teacher[token])
    left = _beginning_with(there, ids[token - 1], probabilities[token - 1], to_student)
    rest = max(0.0, 1.0 - float(probabilities[token - 1].sum()))
    known = sum(left.values())
    if there and rest > known:
        return {}
    # At the beginning of a token nothing is ruled out: what has no token stays in the rest.
    whole = known + rest if there else 1.0
    if whole <= 0:
        return {}
    stored = left.pop(taken, None)
    spread: dict[int, float] = {}
    for entry, mass in left.items():
        piece = to_student.first_piece(to_student.source_bytes[entry][len(there) :]) if there else NONE
        _add(spread, piece if there else int(to_student.first[entry]), mass / whole)
    own = stored if stored is not None else min(float(np.exp(logprobs[token - 1])), rest)
    path = own / whole
    if reading.teacher_ends[token] < end:
        reached = _along(reading, token, end, logprobs, ids, probabilities, to_student)
        if stored is not None:
            remainder = to_student.source_bytes[taken][len(there) :]
            first = to_student.first_piece(remainder) if there else int(to_student.first[taken])
            _add(spread, first, path * (1 - reached))
        path *= reached
    elif stored is None:
        path = 0.0  # the teacher did not store it: it is in the rest
    _add(spread, target, path)
    return spread


def _along(
    reading: Reading,
    token: int,
    end: int,
    logprobs: np.ndarray,
    ids: np.ndarray,
    probabilities: np.ndarray,
    to_student: TeacherPieces,
) -> float:
    """Given the teacher's `token`, the probability that the text goes on as it does, up to the byte `end`."""
    reached, at = 1.0, int(reading.teacher_ends[token])
    for following in range(token + 1, len(reading.teacher)):
        if (stop := int(reading.teacher_ends[following])) < end:
            reached *= float(np.exp(logprobs[following - 1]))
            at = stop
            continue
        missing = reading.stream[at:end]
        left = _beginning_with(missing, ids[following - 1], probabilities[following - 1], to_student, longer=False)
        own = 0.0 if int(reading.teacher[following]) in left else float(np.exp(logprobs[following - 1]))
        return reached * min(1.0, sum(left.values()) + own)
    return 0.0


def _beginning_with(
    content: bytes, ids: np.ndarray, probabilities: np.ndarray, to_student: TeacherPieces, *, longer: bool = True
) -> dict[int, float]:
    """The entries whose text begins with `content`, and goes on if it must be `longer`."""
    bytes_of = to_student.source_bytes
    return {
        int(entry): float(mass)
        for entry, mass in zip(ids, probabilities, strict=True)
        if mass > 0 and (not content or bytes_of[entry].startswith(content))
        if not (longer and content) or len(bytes_of[entry]) > len(content)
    }


def _add(spread: dict[int, float], student_id: int, mass: float) -> None:
    if student_id != NONE and mass > 0:
        spread[student_id] = spread.get(student_id, 0.0) + mass
