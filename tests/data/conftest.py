import pytest
from data_samples import VOCAB_SIZE, random_documents, standard_library_text
from hypothesis import settings

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.sentencepiece_tokenizer import SentencePieceTokenizer, train_sentencepiece
from demiurgic_jax.data.shards import ShardSet, write_shards

# No example database: a test run leaves nothing in the tree.
settings.register_profile("data", database=None, deadline=None)
settings.load_profile("data")


@pytest.fixture(scope="session")
def tokenizer() -> SentencePieceTokenizer:
    return train_sentencepiece(standard_library_text(), VOCAB_SIZE)


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    return random_documents(60)


@pytest.fixture
def shard_set(tokenizer, documents, tmp_path) -> ShardSet:
    """Sixty documents in four shards."""
    provenance = {"source": "tests", "teacher": None}
    return write_shards(tmp_path / "shards", documents, tokenizer=tokenizer, num_shards=4, provenance=provenance)
