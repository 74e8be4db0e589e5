"""Text from tokens: whole characters, and never a part of a stop string."""

from hypothesis import given
from hypothesis import strategies as st

from demiurgic_jax.data.completer import TokenLogprob
from demiurgic_jax.sampling.text import TextAssembler

# Few letters, so that stop strings do occur; bytes that break characters apart.
TOKENS = st.lists(st.sampled_from([b"a", b"b", b"ab", b"ba", b"\n", "é".encode(), b"\xe4", b"\xb8", b"\x96", b""]))
STOPS = st.lists(st.text("ab\né世", min_size=1, max_size=4), max_size=3)


def assemble(tokens: list[bytes], stops: list[str]) -> tuple[list[str], list[str]]:
    """The pieces, and the tokens whose log-probabilities came out."""
    assembler = TextAssembler(stops)
    pieces = []
    for number, token in enumerate(tokens):
        pieces.append(assembler.feed(token, TokenLogprob(str(number), -1.0)))
        if assembler.stopped:
            break
    else:
        pieces.append(assembler.finish())
    return [piece.text for piece in pieces], [entry.token for piece in pieces for entry in piece.logprobs]


@given(TOKENS, STOPS)
def test_the_pieces_are_the_decoded_text_up_to_the_first_stop(tokens: list[bytes], stops: list[str]):
    text = b"".join(tokens).decode(errors="replace")
    joined = "".join(assemble(tokens, stops)[0])
    assert not any(stop in joined for stop in stops)
    # A stop cuts the text at the first token that completes one, so the text before it is what remains.
    if any(stop in text for stop in stops):
        assert any(text.startswith(joined + stop) for stop in stops)
    else:
        assert joined == text


@given(TOKENS)
def test_without_stops_every_character_comes_as_soon_as_it_is_whole(tokens: list[bytes]):
    assembler = TextAssembler([])
    fed, released = b"", ""
    for token in tokens:
        fed += token
        released += assembler.feed(token).text
        # At most the bytes of one unfinished character are held.
        assert len(fed.decode(errors="replace")) - len(released) <= 1


@given(TOKENS)
def test_every_token_gives_its_logprob_once_and_in_order(tokens: list[bytes]):
    assert assemble(tokens, [])[1] == [str(number) for number in range(len(tokens))]


def test_a_stop_split_over_tokens_takes_its_tokens_logprobs_with_it():
    pieces, judged = assemble([b"x", b"E", b"N", b"D", b"y"], ["END"])
    assert "".join(pieces) == "x"
    assert judged == ["0"]


def test_what_only_looked_like_a_stop_is_released():
    pieces, judged = assemble([b"E", b"N", b"T", b"E", b"N"], ["END"])
    assert pieces == ["", "", "ENT", "", "", "EN"]
    assert judged == ["0", "1", "2", "3", "4"]
