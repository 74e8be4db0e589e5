"""A teacher's distributions in another tokenizer's tokens: nothing is lost, and what agrees is exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demiurgic_jax.data.alignment import align, read_both
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.vocabulary_map import NONE, VocabularyMap

TEXT = "def grüße(name):\n    return f'Grüße, {name}! 世界 😀 ▁'\n\nfor number in range(100):\n    print(number)\n"
OTHER = "class Reader:\n    def read(self, number):\n        return self.name[number] + 'ß世'\n"


@pytest.fixture(scope="module")
def small():
    return train_sentencepiece([TEXT * 20], 380)


@pytest.fixture(scope="module")
def large():
    return train_sentencepiece([TEXT * 20, OTHER * 20], 460)


@pytest.fixture(scope="module")
def maps(small, large):
    """(student → teacher, teacher → student) by which of the two teaches; and one that teaches itself."""
    pairs = {"small teaches": (large, small), "large teaches": (small, large), "itself": (large, large)}
    return {name: (VocabularyMap(s, t), VocabularyMap(t, s)) for name, (s, t) in pairs.items()}


def distributions(seed, reading, vocabulary, sharpness):
    """A teacher's whole distribution at each of its tokens, likely to say what the text does."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (len(reading.teacher), vocabulary))
    following = np.append(reading.teacher[1:], 0)
    logits[np.arange(len(following)), following] += sharpness
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return logprobs[np.arange(len(following)), following], logprobs


def entries(logprobs, k):
    ids = np.argsort(-logprobs, axis=1)[:, :k]
    return ids, np.take_along_axis(logprobs, ids, axis=1)


WORDS = ["def ", "return", "grüße", "世界", "😀", "\n    ", "number", "ß", "xyzzy", "▁", " "]
text = st.lists(st.sampled_from(WORDS), min_size=1).map("".join)


@settings(max_examples=60, derandomize=True)
@given(
    name=st.sampled_from(["small teaches", "large teaches", "itself"]),
    text=text,
    cut=st.integers(0, 3),
    seed=st.integers(0, 1000),
    k=st.sampled_from([4, 32, None]),
    sharpness=st.sampled_from([0.0, 6.0, 12.0]),
)
def test_entries_and_rest_are_one_at_every_place(maps, name, text, cut, seed, k, sharpness):
    to_teacher, to_student = maps[name]
    tokens = np.array(to_teacher.source.encode(text), np.int32)
    tokens = tokens[: max(len(tokens) - cut, 0)]  # perhaps in the middle of a character
    reading = read_both(tokens, to_student, to_teacher, bos=True)
    own, logprobs = distributions(seed, reading, to_student.source.vocab_size, sharpness)
    ids, top = entries(logprobs, k or logprobs.shape[1])
    aligned = align(reading, own, ids, top, to_student)
    total = aligned.probabilities.sum(-1)
    assert (aligned.probabilities >= 0).all()
    assert (total <= 1 + 1e-9).all()
    assert (aligned.ids < to_student.target.vocab_size).all()
    for row_ids, row in zip(aligned.ids, aligned.probabilities, strict=True):
        assert len(set(row_ids[row > 0])) == (row > 0).sum()
    if k is None:
        # All is stored: what is missing at the beginning of a token is what the student has no piece for.
        begins = np.isin(reading.student_ends, reading.teacher_ends) & aligned.has_teacher
        lost = np.exp(logprobs)[:, to_student.first == NONE].sum(-1)
        covering = np.searchsorted(reading.teacher_ends, reading.student_ends[begins], side="right") - 1
        np.testing.assert_allclose(total[begins], 1 - lost[covering], atol=1e-9)


@settings(max_examples=20, derandomize=True)
@given(text=text, seed=st.integers(0, 1000), k=st.sampled_from([3, 16]))
def test_a_tokenizer_teaches_itself_its_own_targets(maps, text, seed, k):
    to_teacher, to_student = maps["itself"]
    tokens = np.array(to_teacher.source.encode(text), np.int32)
    reading = read_both(tokens, to_student, to_teacher, bos=False)
    np.testing.assert_array_equal(reading.teacher, tokens)
    own, logprobs = distributions(seed, reading, to_student.source.vocab_size, 3.0)
    ids, top = entries(logprobs, k)
    aligned = align(reading, own, ids, top, to_student)
    assert aligned.has_teacher[:-1].all()
    assert not aligned.has_teacher[-1:].any()
    for place in range(len(tokens) - 1):
        expected = dict(zip(ids[place].tolist(), np.exp(top[place]), strict=True))
        used = aligned.probabilities[place] > 0
        assert dict(zip(aligned.ids[place][used].tolist(), aligned.probabilities[place][used], strict=True)) == expected


@settings(max_examples=30, derandomize=True)
@given(text=text, seed=st.integers(0, 1000))
def test_a_longer_token_is_the_product_of_those_that_spell_it(maps, text, seed):
    """Against the chain rule written out, where both cut at the beginning and at the end."""
    to_teacher, to_student = maps["small teaches"]
    tokens = np.array(to_teacher.source.encode(text), np.int32)
    reading = read_both(tokens, to_student, to_teacher, bos=True)
    own, logprobs = distributions(seed, reading, to_student.source.vocab_size, 6.0)
    ids, top = entries(logprobs, logprobs.shape[1])
    aligned = align(reading, own, ids, top, to_student)
    ends = reading.teacher_ends.tolist()
    for place in np.flatnonzero(aligned.has_teacher):
        begin, end = (int(reading.student_ends[place + i]) for i in (0, 1))
        if begin not in ends or end not in ends:
            continue
        first, last = ends.index(begin) + 1, ends.index(end)
        if first == last:
            continue
        target = int(tokens[place + 1])
        missing = reading.stream[ends[last - 1] : end]
        beginning = [v for v in range(logprobs.shape[1]) if to_student.source_bytes[v].startswith(missing)]
        expected = np.exp(own[first - 1 : last - 1].sum()) * np.exp(logprobs[last - 1][beginning]).sum()
        others = [v for v in range(logprobs.shape[1]) if to_student.first[v] == target and v != reading.teacher[first]]
        expected += np.exp(logprobs[first - 1][others]).sum()
        mass = aligned.probabilities[place][aligned.ids[place] == target].sum()
        assert mass == pytest.approx(expected, rel=1e-9)


def test_inside_of_a_teachers_token_its_entries_are_shares_of_what_can_still_come(maps):
    """The teacher has a piece for `return`; the student spells it, and is halfway through."""
    to_teacher, to_student = maps["large teaches"]
    teacher = to_student.source
    word = next(
        v
        for v in range(teacher.vocab_size)
        if len(to_student.source_bytes[v]) > 2 and len(to_student.pieces(v)) == 2
        if teacher.encode("\n" + to_student.source_bytes[v].decode(errors="replace"))[-1:] == [v]
    )
    content = to_student.source_bytes[word]
    tokens = np.array(to_teacher.source.encode("\n" + content.decode()), np.int32)
    reading = read_both(tokens, to_student, to_teacher, bos=False)
    assert reading.teacher.tolist()[-1] == word
    there = reading.stream[reading.teacher_ends[-2] : reading.student_ends[-2]]
    other = next(v for v in range(256, teacher.vocab_size) if not to_student.source_bytes[v].startswith(there[:1]))
    ids = np.tile(np.array([[word, other]], np.int32), (len(reading.teacher), 1))
    top = np.tile(np.log([[0.6, 0.3]]), (len(reading.teacher), 1))
    aligned = align(reading, top[:, 0], ids, top, to_student)
    mass = aligned.probabilities[-2][aligned.ids[-2] == tokens[-1]].sum()
    assert mass == pytest.approx(0.6 / 0.7)  # of the word and the rest of 0.1
    unsure = np.log([[0.1, 0.3]]) + 0 * top
    assert not align(reading, unsure[:, 0], ids, unsure, to_student).has_teacher[-2]


def test_bos_gives_the_first_token_a_teacher_where_both_begin_with_it(maps):
    to_teacher, to_student = maps["small teaches"]
    student, teacher = to_teacher.source, to_teacher.target
    plain = np.array(student.encode("def number"), np.int32)
    marked = np.array([student.special.bos, *plain], np.int32)
    for bos in (False, True):
        reading = read_both(marked, to_student, to_teacher, bos=bos)
        assert reading.teacher.tolist() == [teacher.special.bos, *teacher.encode("def number")]
        own, logprobs = distributions(0, reading, teacher.vocab_size, 3.0)
        assert align(reading, own, *entries(logprobs, 8), to_student).has_teacher[0]
    unmarked = read_both(plain, to_student, to_teacher, bos=True)
    assert unmarked.teacher[0] == teacher.special.bos
    assert unmarked.teacher_ends[0] == 0
    assert read_both(plain, to_student, to_teacher, bos=False).teacher[0] != teacher.special.bos


def test_a_cut_character_is_not_read_and_has_no_target(maps):
    to_teacher, to_student = maps["small teaches"]
    tokens = np.array(to_teacher.source.encode("ab ☃"), np.int32)  # the snowman has no piece: three bytes
    reading = read_both(tokens[:-1], to_student, to_teacher, bos=False)
    assert reading.stream[: reading.teacher_ends[-1]].decode() == "ab "
    assert not reading.readable[-2:].any()


def test_the_end_of_a_text_is_the_end_whatever_it_is_called(maps):
    to_teacher, to_student = maps["small teaches"]
    for mapping in (to_teacher, to_student):
        assert mapping.first[mapping.source.special.eos] == mapping.target.special.eos
        assert mapping.pieces(mapping.source.special.eos) == [mapping.target.special.eos]
