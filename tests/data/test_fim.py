from dataclasses import replace

import numpy as np
import pytest
from data_samples import standard_library_text
from hypothesis import given, settings
from hypothesis import strategies as st
from test_huggingface_tokenizer import byte_level, library  # noqa: F401 (fixtures)

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.fim import FimConfig, FimTransform, fim_prompt
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.sentencepiece_tokenizer import SentencePieceTokenizer
from demiurgic_jax.data.shards import ShardSet, write_shards
from demiurgic_jax.data.soft_targets import SoftTargets
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError

ALWAYS = FimConfig(rate=1.0)
PIECES = ["def f(x):\n", "    return x\n", "naïve", "数字", "😀", " ", "\t", "▁", "1234", "<|fim_middle|>"]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=40).map("".join)


def parts_of(tokenizer: Tokenizer, task: list[int]) -> tuple[bool, str, str, str]:
    """Whether the suffix stands first, and prefix, middle and suffix as text."""
    special = tokenizer.special
    assert task[0] == special.fim_prefix
    assert task[-1] == special.eos
    assert [task.count(i) for i in (special.fim_prefix, special.fim_suffix, special.fim_middle)] == [1, 1, 1]
    middle_at, suffix_at = task.index(special.fim_middle), task.index(special.fim_suffix)
    suffix, after = tokenizer.decode(task[suffix_at + 1 : middle_at]), task[middle_at + 1 : -1]
    if suffix_at == 1:  # a prefix that is not empty stands before the suffix in the other order
        return True, "", tokenizer.decode(after), suffix
    return False, tokenizer.decode(task[1:suffix_at]), tokenizer.decode(after), suffix


@settings(max_examples=200)
@given(text=TEXTS, document=st.integers(0, 10**9), epoch=st.integers(0, 50))
@pytest.mark.parametrize("kind", ["sentencepiece", "byte_level"])
def test_the_three_parts_join_to_the_text_again(tokenizer, byte_level, kind, text, document, epoch):  # noqa: F811
    chosen = {"sentencepiece": tokenizer, "byte_level": byte_level}[kind]
    # Room behind the text, so that nothing has to be left out: the end of a document that is longer.
    room = chosen.encode(text) + [chosen.special.pad] * 200
    tokens = np.array(room)
    task = FimTransform(ALWAYS, Roomy(chosen), seed=3)(tokens, epoch, document, 0)
    _, prefix, middle, suffix = parts_of(chosen, task.tolist())
    assert prefix + middle + suffix == text


class Roomy:
    """A tokenizer that takes pad for nothing."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.special, self.reserved = tokenizer.special, tokenizer.reserved
        self.encode = tokenizer.encode
        self._decode = tokenizer.decode

    def decode(self, ids: list[int]) -> str:
        return self._decode([i for i in ids if i != self.special.pad])


@settings(max_examples=200)
@given(text=TEXTS, document=st.integers(0, 10**9))
def test_a_task_takes_no_more_room_than_the_piece_and_its_middle_is_whole(tokenizer, text, document):
    tokens = np.array(tokenizer.encode(text), int)
    task = FimTransform(ALWAYS, tokenizer, seed=3)(tokens, 0, document, 0)
    if task is None:
        return
    assert len(task) <= len(tokens)
    _, prefix, middle, suffix = parts_of(tokenizer, task.tolist())
    # "�" is what is left of a character that lost a byte with the end of the suffix or the beginning of the prefix.
    assert (prefix + middle).lstrip("�") + suffix.rstrip("�") in text


def test_cuts_fall_between_any_two_characters_also_inside_of_tokens(tokenizer):
    text = "return value"
    tokens = np.array(tokenizer.encode(text) + [tokenizer.special.pad] * 30)
    assert len(tokenizer.encode(text)) < 8
    transform = FimTransform(FimConfig(1.0, 0.0), Roomy(tokenizer), seed=0)
    parts = [parts_of(tokenizer, transform(tokens, 0, document, 0).tolist()) for document in range(2000)]
    cuts = np.array([(len(prefix), len(prefix + middle)) for _, prefix, middle, _ in parts])
    # The smaller of two even draws from 0..12 is even no more, but both together are.
    assert np.bincount(cuts.ravel(), minlength=13).min() > 0.85 * 4000 / 13


def test_a_task_is_what_a_prompt_asks_with_the_answer_behind_it(tokenizer):
    text = standard_library_text()[0][:300]
    tokens = np.array(tokenizer.encode(text) + [tokenizer.special.pad] * 30)
    task = FimTransform(FimConfig(1.0, 0.0), Roomy(tokenizer), seed=5)(tokens, 0, 11, 0).tolist()
    _, prefix, middle, suffix = parts_of(tokenizer, task)
    assert task == [*fim_prompt(tokenizer, prefix, suffix), *tokenizer.encode(middle), tokenizer.special.eos]


def test_suffix_prefix_middle_is_the_papers_second_variant(tokenizer):
    text = standard_library_text()[0][:300]
    tokens = np.array(tokenizer.encode(text) + [tokenizer.special.pad] * 30)
    psm, spm = (
        FimTransform(FimConfig(1.0, spm_rate), Roomy(tokenizer), seed=5)(tokens, 0, 11, 0).tolist()
        for spm_rate in (0.0, 1.0)
    )
    _, prefix, middle, suffix = parts_of(tokenizer, psm)
    special = tokenizer.special
    assert spm == [
        *(special.fim_prefix, special.fim_suffix, *tokenizer.encode(suffix), special.fim_middle),
        *(*tokenizer.encode(prefix), *tokenizer.encode(middle), special.eos),
    ]


@pytest.fixture(scope="module")
def code(tokenizer, tmp_path_factory) -> ShardSet:
    """Forty pieces of code with a teacher, and ten answers to questions about code."""
    lines = standard_library_text()[0].splitlines(keepends=True)
    documents = []
    for i in range(50):
        tokens = np.array(tokenizer.encode("".join(lines[i * 20 : i * 20 + 20])))
        soft = SoftTargets(np.ones(len(tokens), np.uint8), np.roll(tokens, -1), np.zeros(len(tokens), np.float16))
        mask = np.arange(len(tokens)) > 5
        task = "explain" if i % 5 == 0 else "code"
        documents.append(
            Document(f"d{i}", "python", task, tokens, mask.astype(np.uint8) if task == "explain" else None, soft)
        )
    folder = tmp_path_factory.mktemp("code")
    return write_shards(folder, documents, tokenizer=tokenizer, num_shards=2, provenance={})


def fim_loader(code: ShardSet, tokenizer: SentencePieceTokenizer, fim: FimConfig, **more) -> Loader:
    arguments = {"batch_size": 4, "row_length": 512, "seed": 1, "soft_targets": 1}
    return Loader(code, fim=fim, tokenizer=tokenizer, **{**arguments, **more})


def segments(loader: Loader, steps: int) -> list[dict[str, np.ndarray]]:
    """Every document of the steps' rows by itself."""
    found = []
    for step in range(steps):
        batch = loader.batch(step)
        for b, segment_ids in enumerate(batch.segment_ids):
            for segment in range(1, segment_ids.max() + 1):
                here = segment_ids == segment
                found.append({name: array[b][here] for name, array in batch._asdict().items() if array is not None})
    return found


def test_a_share_of_the_code_becomes_tasks_and_no_answer_does(code, tokenizer):
    special = tokenizer.special
    found = segments(fim_loader(code, tokenizer, FimConfig(0.5, 0.25)), 60)
    tasks = [each for each in found if each["tokens"][0] == special.fim_prefix]
    assert 0.33 < len(tasks) / len(found) < 0.47  # half of four fifths
    assert 0.15 < np.mean([task["tokens"][1] == special.fim_suffix for task in tasks]) < 0.35
    for each in found:
        if not each["loss_weights"][:4].any():  # an answer, whose question is not learnt
            assert special.fim_middle not in each["tokens"]
    for task in tasks:
        n = len(task["tokens"])
        assert task["positions"].tolist() == list(range(n))
        assert task["targets"][:-1].tolist() == task["tokens"][1:].tolist()
        markers = np.isin(task["targets"], [special.fim_prefix, special.fim_suffix, special.fim_middle])
        assert task["loss_weights"].tolist() == [*(~markers[:-1]).astype(float), 0.0]
        assert task["loss_weights"][-2] == 1  # where the middle ends is learnt
        assert np.isneginf(task["teacher_logprobs"]).all()
    plain = [each for each in found if each["tokens"][0] != special.fim_prefix]
    assert any(np.isfinite(each["teacher_logprobs"]).any() for each in plain)


def test_tasks_are_the_same_after_a_restart_and_on_any_process_and_others_in_another_epoch(code, tokenizer):
    loader, again = (fim_loader(code, tokenizer, ALWAYS) for _ in range(2))
    for step in (0, 3, 1000):
        for name, whole in loader.batch(step)._asdict().items():
            if whole is None:
                continue
            parts = [getattr(again.batch(step, process, 4), name) for process in range(4)]
            np.testing.assert_array_equal(np.concatenate(parts), whole)
    with again.batches(3, workers=1, threads=1) as batches:
        np.testing.assert_array_equal(next(batches)[1].tokens, loader.batch(3).tokens)
    one = Loader(code, batch_size=1, row_length=4096, seed=1, fim=ALWAYS, tokenizer=tokenizer)
    assert one.num_rows > 1
    epochs = [{one.batch(epoch * one.num_rows + j).tokens.tobytes() for j in range(one.num_rows)} for epoch in (0, 1)]
    assert not epochs[0] & epochs[1]


def test_rate_zero_leaves_every_row_as_it_is(code, tokenizer):
    plain = Loader(code, batch_size=4, row_length=512, seed=1, soft_targets=1)
    for name, array in fim_loader(code, tokenizer, FimConfig(0.0)).batch(5)._asdict().items():
        np.testing.assert_array_equal(array, getattr(plain.batch(5), name))


def test_half_a_character_at_the_edge_of_a_piece_is_left_out(tokenizer):
    tokens = np.array(tokenizer.encode("数x字"))  # byte by byte: neither is in the vocabulary
    assert len(tokens) == 7
    inner = np.concatenate([tokens[1:6], np.full(20, tokenizer.special.pad)])
    task = FimTransform(ALWAYS, Roomy(tokenizer), seed=0)(inner, 0, 0, 0).tolist()
    _, prefix, middle, suffix = parts_of(tokenizer, task)
    assert prefix + middle + suffix == "x"


def test_a_tokenizer_without_fim_pieces_is_refused(code, tokenizer):
    without = SentencePieceTokenizer.from_files(tokenizer.files(), "the test")
    without.special = replace(without.special, fim_suffix=None)
    with pytest.raises(UserError, match=r"no fill-in-the-middle tokens; set fim\.rate to 0"):
        fim_loader(code, without, ALWAYS)


@pytest.mark.parametrize(("field", "value"), [("rate", -0.1), ("rate", 1.5), ("spm_rate", 2.0)])
def test_rates_outside_of_0_to_1_are_refused(field, value):
    with pytest.raises(UserError, match=rf"fim\.{field}={value} is outside 0\.\.1"):
        FimConfig(**{field: value})
