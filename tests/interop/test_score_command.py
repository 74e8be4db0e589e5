"""`python -m tools.score` gives a shard set the soft targets of a model as its users have it, part by part."""

import numpy as np
import pytest
from huggingface_folder import LLAMA, llama_tensors, write_folder

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.shards import ShardSet, write_shards
from demiurgic_jax.data.tokenizer import save_tokenizer
from tools.score import main


@pytest.fixture
def given(tmp_path):
    """A teacher that reads bytes, and shards in the pieces of a student."""
    write_folder(tmp_path / "teacher", LLAMA, llama_tensors(LLAMA))
    text = "def add(a, b):\n    return a + b  # Grüße, 世界\n"
    student = train_sentencepiece([text * 30], 400)
    save_tokenizer(student, tmp_path / "student")
    documents = [Document(str(i), "python", "code", np.array(student.encode(text * i), np.int32)) for i in (1, 2, 3)]
    write_shards(tmp_path / "plain", documents, tokenizer=student, num_shards=2, provenance={"from": "tests"})
    return tmp_path


def test_a_student_of_pieces_learns_from_a_teacher_of_bytes(given, capsys):
    arguments = [str(given / "plain"), str(given / "soft"), "--teacher", str(given / "teacher"), "--row-length", "64"]
    arguments += ["--student", str(given / "student"), "--kind", "top_p", "--top-k", "8"]
    assert main([*arguments, "--part", "1/2"]) == 0
    assert "closed by the last part to finish" in capsys.readouterr().out
    assert main([*arguments, "--part", "0/2"]) == 0
    assert "bytes for each of these" in capsys.readouterr().out
    scored = ShardSet(given / "soft")
    scored.verify()
    for number in range(len(scored)):
        soft = scored.read(number).soft_targets
        # Each of the student's pieces begins and ends where a byte does.
        assert (soft.counts[:-1] > 0).all()
        assert soft.counts.max() <= 8


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "was made with tokenizer"),
        (["--student", "student", "--kind", "top_p", "--top-k", "0"], "top_k is 0: give 1 to 255"),
        (["--student", "student", "--part", "4"], "--part=4 is no INDEX/COUNT"),
        (["--student", "student", "--part", "4/4"], "part 4 of 4 does not exist"),
    ],
)
def test_mistakes_are_named(given, capsys, more, said):
    more = [str(given / word) if word == "student" else word for word in more]
    arguments = [str(given / "plain"), str(given / "soft"), "--teacher", str(given / "teacher"), *more]
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
