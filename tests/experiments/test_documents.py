"""Examples and code as tokens: what is learnt of them, and that more processes give the same."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from data_samples import VOCAB_SIZE, standard_library_text

from demiurgic_jax.curation.seeds import cut_seeds
from demiurgic_jax.curation.sources import read_folder, standard_library
from demiurgic_jax.data.completer import Message
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.tokenizer import save_tokenizer
from demiurgic_jax.distillation.example import Example
from experiments.stages import documents
from experiments.stages.documents import encoded, example_document


@pytest.fixture(scope="module")
def tokenizer():
    return train_sentencepiece(standard_library_text(), VOCAB_SIZE)


def example(number: int, suffix: str | None = None) -> Example:
    prompt = None if suffix is None else "def f(x):\n    "
    return Example(
        f"e{number}", "complete", "python", (Message("user", f"Fill in {number}"),), prompt, suffix, f"x += {number}\n",
        {}, 1, 1, 0.0, "t", "v", "s", "n", "p", "MIT",
    )  # fmt: skip


def test_a_filled_gap_is_learnt_between_the_markers_and_other_answers_in_a_chat(tokenizer):
    special = tokenizer.special
    gap = example_document(tokenizer, example(1, "    return x\n"))
    assert special.fim_middle in gap.tokens
    answer = tokenizer.decode(gap.tokens[gap.loss_mask == 1].tolist(), skip_special=True)
    assert answer == "x += 1\n"
    assert gap.tokens[-1] == special.eos
    chat = example_document(tokenizer, example(1))
    assert special.fim_middle not in chat.tokens
    assert tokenizer.decode(chat.tokens[chat.loss_mask == 1].tolist(), skip_special=True) == "x += 1\n"


def test_processes_give_the_same_documents_in_the_same_order(tokenizer, tmp_path, monkeypatch):
    save_tokenizer(tokenizer, tmp_path)
    folder, licence = standard_library()
    items = [*cut_seeds(read_folder(folder / "json", licence=licence)), *(example(number) for number in range(40))]
    alone = list(encoded(items, tmp_path, 64, processes=1))
    monkeypatch.setattr(documents, "_ALONE", 10)
    monkeypatch.setattr(documents, "_CHUNK", 8)
    started = []
    pool = documents.ProcessPoolExecutor
    monkeypatch.setattr(documents, "ProcessPoolExecutor", lambda *given: started.append(given) or pool(*given))
    together = list(encoded(items, tmp_path, 64, processes=2))
    assert started
    assert [each.key for each in together] == [each.key for each in alone] == [each.id for each in items]
    assert all(np.array_equal(a.tokens, b.tokens) for a, b in zip(alone, together, strict=True))
