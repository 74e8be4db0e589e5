"""What is left out of a prompt that would not fit, and what is not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demiurgic_jax.data.completer import CompletionRequest, UnanswerableError
from demiurgic_jax.data.fim_families import FimFile, FimFormat
from demiurgic_jax.data.sentencepiece_tokenizer import SentencePieceTokenizer
from demiurgic_jax.sampling.fim_budget import fit_fim
from demiurgic_jax.sampling.prompt import encode_prompt, fit_prompt

LINES = st.lists(st.sampled_from(["", "x = 1", "    return naïve_世界", "for number in range(10):", " "]), max_size=40)
TEXT = LINES.map("\n".join)
FILES = st.lists(st.builds(FimFile, st.sampled_from(["a.py", "b/c.py"]), TEXT), max_size=4)


@pytest.fixture(scope="module")
def form(tokenizer: SentencePieceTokenizer) -> FimFormat:
    return FimFormat(tokenizer, "")


def parts(form: FimFormat, tokenizer: SentencePieceTokenizer, tokens: list[int]) -> tuple[str, str]:
    at = tokens.index(form.suffix)
    return tokenizer.decode(tokens[1:at]), tokenizer.decode(tokens[at + 1 : -1])


@settings(max_examples=150)
@given(prefix=TEXT, suffix=TEXT, files=FILES, room=st.integers(3, 400))
def test_it_fits_and_what_is_kept_is_next_to_the_cursor(tokenizer, form, prefix, suffix, files, room):
    tokens, truncated = fit_fim(form, prefix, suffix, files, room)
    assert len(tokens) <= room
    before, behind = parts(form, tokenizer, tokens)
    whole = form.prompt(form.encode(prefix), form.encode_inside(suffix), [form.file_block(file) for file in files])
    assert truncated == (tokens != whole)
    if truncated:
        assert len(whole) > room
        assert suffix.startswith(behind)
    if not files:
        assert prefix.endswith(before)


@settings(max_examples=100)
@given(lines=st.lists(st.sampled_from(["x = 1\n", "    return a\n", "\n"]), min_size=30, max_size=60))
def test_cuts_fall_between_lines(tokenizer, form, lines):
    text = "".join(lines)
    before, behind = parts(form, tokenizer, fit_fim(form, text, text, [], 60).tokens)
    assert before
    assert behind
    assert text.endswith("\n" + before) or before == text
    assert text.startswith(behind)
    assert behind.endswith("\n")


def test_each_has_its_share_and_takes_what_others_leave(tokenizer, form):
    line = "x = 1\n"
    cost = len(tokenizer.encode(line * 100)) // 100
    long, short = line * 300, line * 2
    room = 103 * cost

    def lines(prefix: str, suffix: str, files: list[FimFile]) -> tuple[int, int]:
        before, behind = parts(form, tokenizer, fit_fim(form, prefix, suffix, files, room).tokens)
        return before.count("\n"), behind.count("\n")

    assert lines(long, long, []) == pytest.approx((80, 20), abs=2)
    assert lines(long, "", []) == pytest.approx((102, 0), abs=2)
    assert lines(short, long, []) == pytest.approx((2, 100), abs=2)
    before, behind = lines(long, long, [FimFile("a.py", long)])
    assert (before, behind) == pytest.approx((80, 20), abs=3)  # the file's lines count as the prefix's here


def test_the_nearest_files_are_kept_whole_and_one_keeps_its_beginning(tokenizer, form):
    files = [FimFile(f"{name}.py", "".join(f"{name}{i}\n" for i in range(10))) for name in "abc"]
    cost = len(form.file_block(files[0]))
    before, _ = parts(form, tokenizer, fit_fim(form, "", "", files, int(1.6 * cost)).tokens)
    assert before.endswith("# c.py\n" + files[2].text)
    rest = before.removesuffix("# c.py\n" + files[2].text)
    assert rest.startswith("# b.py\nb0\n")
    assert ("# b.py\n" + files[1].text).startswith(rest)


def test_a_line_that_is_too_long_keeps_what_is_next_to_the_cursor(tokenizer, form):
    before, behind = parts(form, tokenizer, fit_fim(form, "a" * 500, "b" * 500, [], 43).tokens)
    assert set(before) == {"a"}
    assert set(behind) == {"b"}


def test_no_room_at_all_is_refused(form):
    with pytest.raises(UnanswerableError, match="room for 2 tokens"):
        fit_fim(form, "a", "b", [], 2)


def test_a_megabyte_on_one_line_is_cut_in_a_moment(form):
    assert len(fit_fim(form, "a = 1; " * 150_000, "b" * 1_000_000, [], 500).tokens) <= 500


def test_truncate_cuts_a_suffixed_request_between_lines_too(tokenizer):
    text = "".join(f"x{i} = {i}\n" for i in range(200))
    request = CompletionRequest(prompt=text, suffix=text, max_tokens=20, truncate=True)
    ids = fit_prompt(tokenizer, request, encode_prompt(tokenizer, request), 200)
    assert len(ids) <= 180
    before, behind = parts(FimFormat(tokenizer, ""), tokenizer, ids)
    assert text.endswith("\n" + before)
    assert text.startswith(behind)
    assert behind.endswith("\n")
