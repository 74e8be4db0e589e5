"""What an API tells of a text, as soft targets: the same as if the teacher's vocabulary were known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demiurgic_jax.data.alignment import align, read_both
from demiurgic_jax.data.completer import TokenLogprob
from demiurgic_jax.data.soft_targets import truncate_top_p
from demiurgic_jax.data.told_targets import ToldText, told_bytes
from demiurgic_jax.data.vocabulary_map import Pieces
from demiurgic_jax.sampling.row import token_text
from tests.data.test_alignment import distributions, large, maps, small, text  # noqa: F401 (fixtures)

K = 8


def told_of(reading, following, logprobs, source_bytes):
    """What an API would say of the teacher's tokens after its first."""
    ids = np.argsort(-logprobs, axis=1)[:, :K]
    return [
        TokenLogprob(
            token_text(source_bytes[token]),
            float(following[at]),
            tuple((token_text(source_bytes[each]), float(logprobs[at, each])) for each in ids[at]),
        )
        for at, token in enumerate(reading.teacher[1:].tolist())
    ]


@settings(max_examples=60, derandomize=True)
@given(
    name=st.sampled_from(["small teaches", "large teaches", "itself"]),
    text=text,
    seed=st.integers(0, 1000),
    sharpness=st.sampled_from([0.0, 6.0, 12.0]),
)
def test_texts_say_as_much_as_ids_do(maps, name, text, seed, sharpness):  # noqa: F811
    to_teacher, to_student = maps[name]
    tokens = np.array(to_teacher.source.encode("x" + text), np.int32)
    reading = read_both(tokens, to_student, to_teacher, bos=False)
    following, logprobs = distributions(seed, reading, to_student.source.vocab_size, sharpness)
    # Markers have no bytes in an alignment, and their spelling in what is told.
    logprobs[:, sorted(to_student.source_reserved)] = -np.inf
    # Of ids with one text an API tells one: that which the tokenizer uses.
    used = Pieces(to_student.source).by_bytes
    for token_id, content in enumerate(to_student.source_bytes):
        if used.get(content) != token_id:
            logprobs[:, token_id] = -np.inf
    told = ToldText(told_of(reading, following, logprobs, to_student.source_bytes))
    assert told.content == reading.stream[reading.teacher_ends[0] :]
    start = 1 + int(np.searchsorted(reading.student_ends, reading.teacher_ends[0]))
    if start >= len(tokens):
        return
    offset = int(reading.student_ends[start - 1] - reading.teacher_ends[0])
    found = told.targets(tokens, start, offset, Pieces(to_teacher.source), K)

    ids = np.argsort(-logprobs, axis=1)[:, :K]
    top = np.take_along_axis(logprobs, ids, axis=1)
    # The token that came is told as well, whether it is among the likeliest or not.
    came = np.append(reading.teacher[1:], 0)
    missing = ~(ids == came[:, None]).any(axis=1)
    ids = np.column_stack([ids, np.where(missing, came, 0)])
    top = np.column_stack([top, np.where(missing, following, -np.inf)])
    ids[-1], top[-1] = 0, -np.inf
    aligned = align(reading, np.where(np.arange(len(came)) < len(came) - 1, following, -np.inf), ids, top, to_student)
    expected = truncate_top_p(*aligned.likeliest(K), 1.0)
    assert found.counts[: start - 1].tolist() == [0] * (start - 1)
    assert found.counts[start - 1 :].tolist() == expected.counts[start - 1 :].tolist()
    here, there = found.dense(K), expected.dense(K)
    for at in range(start - 1, len(tokens)):
        ours = dict(zip(here[0][at].tolist(), here[1][at].tolist(), strict=True))
        theirs = dict(zip(there[0][at].tolist(), there[1][at].tolist(), strict=True))
        assert ours == pytest.approx(theirs, abs=2e-3)


def test_a_token_is_its_text_or_its_bytes():
    assert told_bytes("grün") == "grün".encode()
    assert told_bytes(token_text(b"\xe4\xb8")) == b"\xe4\xb8"
    assert told_bytes("bytes:") == b"bytes:"


def told(*pairs):
    return ToldText(
        [TokenLogprob(token, np.log(0.5), ((token, np.log(0.5)), (other, np.log(0.25)))) for token, other in pairs]
    )


def test_what_is_learnt_is_looked_for_in_what_was_written():
    written = told(("So:", "a"), ("\n", "b"), ("return", "c"), (" x", "d"), ("\n", "e"))
    assert written.place("return x") == 4
    assert written.place("\n") is None  # twice
    assert written.place("return y") == 4
    assert written.place("return that is nowhere") is None
    assert written.place("") is None


def test_a_marker_is_told_by_its_spelling_and_nothing_outside_of_the_text_is_judged(large):  # noqa: F811
    pieces = Pieces(large)
    eos = large.special.eos
    content = "return"
    answer = large.encode(content)
    assert len(answer) == 1
    tokens = np.array([*large.encode("x:"), *answer, eos], np.int32)
    start = len(tokens) - 2
    spelling = large.token_bytes(eos).decode()
    soft = told(("So: ", "a"), (content, spelling)).targets(tokens, start, 4, pieces, 5)
    assert soft.counts.tolist() == [0] * (start - 1) + [2, 0, 0]
    assert dict(zip(soft.ids.tolist(), np.exp(soft.logprobs.astype(float)).tolist(), strict=True)) == pytest.approx(
        {answer[0]: 0.5, eos: 0.25}, abs=1e-3
    )


def test_a_text_that_goes_another_way_is_judged_as_far_as_it_is_the_same(large):  # noqa: F811
    pieces = Pieces(large)
    tokens = np.array(large.encode("def number self"), np.int32)
    assert len(tokens) > 2
    first = large.token_bytes(int(tokens[1])).decode()
    soft = told((first, "a"), ("zzz", "b")).targets(tokens, 1, 0, pieces, 5)
    assert soft.counts[0] > 0
    assert not soft.counts[1:].any()
    with pytest.raises(ValueError, match="start at 1"):
        told((first, "a")).targets(tokens, 0, 0, pieces, 5)


def test_minus_9999_and_the_first_token_of_a_prompt_are_not_told(large):  # noqa: F811
    tokens = np.array(large.encode("def number self"), np.int32)
    first, second = (large.token_bytes(int(token)).decode() for token in tokens[1:3])
    text = ToldText(
        [TokenLogprob(first, float("nan"), ()), TokenLogprob(second, -9999.0, ((first, -0.5), ("q", -9999.0)))]
    )
    soft = text.targets(tokens, 1, 0, Pieces(large), 5)
    assert soft.counts.tolist()[:2] == [0, 1]
    assert soft.logprobs.tolist() == [-0.5]
