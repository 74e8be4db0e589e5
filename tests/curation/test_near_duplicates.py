"""Near-duplicates: found as often as the bands predict, the first one kept, the same in every process."""

import random
import subprocess
import sys

import numpy as np
import pytest

from demiurgic_jax.curation.near_duplicates import MinHashConfig, NearDuplicates, signatures
from demiurgic_jax.curation.sources import read_folder, standard_library
from demiurgic_jax.curation.tokens import ngram_hashes, token_hashes
from demiurgic_jax.errors import UserError


def jaccard(one: str, other: str) -> float:
    a, b = (set(ngram_hashes(token_hashes(text), 5).tolist()) for text in (one, other))
    return len(a & b) / len(a | b)


def edited(text: str, share: float, rng: random.Random) -> str:
    lines = text.splitlines()
    for number in rng.sample(range(len(lines)), int(share * len(lines))):
        lines[number] = f"changed_{rng.random()} = {rng.random()}"
    return "\n".join(lines)


def test_edited_copies_are_found_at_the_rate_that_the_bands_predict():
    folder, licence = standard_library()
    # The tables of encodings are near-duplicates by birth.
    files = [file for file in read_folder(folder, licence=licence, max_bytes=20_000) if "encodings" not in file.path]
    texts = [file.text for file in files if len(file.text) > 3000][:250]
    config, rng = MinHashConfig(), random.Random(0)
    pairs = [(text, edited(text, rng.uniform(0.01, 0.2), rng)) for text in texts]
    found, predicted = 0, 0.0
    for one, other in pairs:
        index = NearDuplicates(config)
        assert index.earlier("one", one) is None
        assert index.earlier("same", one) == "one"
        found += index.earlier("other", other) == "one"
        predicted += config.probability(jaccard(one, other))
    assert predicted / len(pairs) > 0.5
    assert abs(found - predicted) / len(pairs) < 0.04
    index = NearDuplicates(config)
    originals = {str(number): text for number, text in enumerate(texts[:150])}
    unlike = [key for key, text in originals.items() if index.earlier(key, text) is not None]
    assert len(unlike) <= 2


def test_signatures_agree_as_often_as_the_texts_do_and_in_every_process():
    rng = random.Random(1)
    words = [f"w{number}" for number in range(400)]
    one = " ".join(words)
    other = " ".join([*words[:300], *(f"x{number}" for number in range(100))])
    wide = MinHashConfig(bands=128, rows=8)
    a, b = signatures([one, other], wide)
    assert abs(np.mean(a == b) - jaccard(one, other)) < 0.06
    text = " ".join(rng.choices(words, k=50))
    program = (
        f"from demiurgic_jax.curation.near_duplicates import *\nprint(signatures([{text!r}], MinHashConfig()).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "5", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout.strip() == str(signatures([text], MinHashConfig()).tolist())
    assert NearDuplicates().earlier("short", "x") is None
    with pytest.raises(UserError, match="must be 1 at least"):
        MinHashConfig(bands=0)
