"""Scoring soft targets beside a bare forward pass of the same teacher over the same rows.

    python -m tools.benchmarks.scoring PATH --code FOLDER           PATH: a GGUF file or a Hugging Face folder

Both take the same documents in the same padded batches, in turns, so that a busy machine slows both alike. The bare
pass makes hidden states and float32 logits, a chunk of tokens at a time, and keeps the largest of each; scoring makes
log-probabilities, draws up to K entries or takes the likeliest up to top-p, and writes shards to a disk. Medians of
tokens per second are printed, padding not counted; 0.9 of the bare pass is what is wanted.
"""

import argparse
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from demiurgic_jax.data.document import Document
from demiurgic_jax.data.shards import ShardSet, write_shards
from demiurgic_jax.data.soft_targets import SOFT_TARGET_KINDS
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.imported import ImportedModel, import_model
from demiurgic_jax.model.decoder import Decoder, unembedding
from demiurgic_jax.sampling.scoring import CHUNK_TOKENS, ScoringConfig, score_batches, score_shards


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--code", type=Path, required=True, help="folder of source files to score")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of a turn (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--row-length", type=int, default=512)
    parser.add_argument("--kind", choices=SOFT_TARGET_KINDS, default="sampled")
    parser.add_argument("--top-k", type=int, default=40)
    parser.add_argument("--top-p", type=float, default=0.98)
    options = parser.parse_args()
    try:
        teacher = import_model(options.teacher)
        scoring = ScoringConfig(options.top_k, options.top_p, options.row_length, kind=options.kind)
        report(teacher, code_documents(teacher, options.code, options.tokens), scoring, options.turns)
    except UserError as error:
        print(f"scoring: {error}", file=sys.stderr)
        return 2
    return 0


def code_documents(teacher: ImportedModel, folder: Path, tokens: int) -> list[Document]:
    """The folder's Python files in order of their names, until `tokens` are there."""
    documents: list[Document] = []
    for path in sorted(folder.rglob("*.py")):
        left = tokens - sum(len(document.tokens) for document in documents)
        ids = teacher.tokenizer.encode(path.read_text(errors="ignore")[: 8 * left])[:left]
        if left > 0 and ids:
            documents.append(Document(path.name, "python", "code", np.array(ids, np.int32)))
    if not documents:
        raise UserError(f"{folder} has no Python files: name a folder that does")
    return documents


def report(teacher: ImportedModel, documents: list[Document], scoring: ScoringConfig, turns: int) -> None:
    tokens = sum(len(document.tokens) for document in documents)
    decoder = Decoder(teacher.config)
    params = jax.tree.map(jnp.asarray, teacher.params)
    seconds: dict[str, list[float]] = {"bare": [], "scoring": []}
    with tempfile.TemporaryDirectory() as folder:
        source = write_shards(
            f"{folder}/source", documents, tokenizer=teacher.tokenizer, num_shards=1, provenance={"from": "code"}
        )
        for turn in range(turns + 1):
            began = time.perf_counter()
            bare_passes(decoder, params, source, scoring)
            between = time.perf_counter()
            score_shards(
                source, f"{folder}/{turn}", teacher.config, params, teacher.tokenizer, scoring, teacher=str(turn)
            )
            if turn:  # the first one compiles
                seconds["bare"].append(between - began)
                seconds["scoring"].append(time.perf_counter() - between)
    speed = {name: tokens / statistics.median(values) for name, values in seconds.items()}
    print(
        f"bare {speed['bare']:,.0f} tokens/s, scoring {speed['scoring']:,.0f}: {speed['scoring'] / speed['bare']:.2f}"
    )


def bare_passes(decoder: Decoder, params: Any, source: ShardSet, scoring: ScoringConfig) -> None:
    documents = [source.read(number).tokens for number in range(len(source))]
    for tokens, _ in score_batches(documents, scoring):
        np.asarray(bare_pass(decoder, params, tokens))


@partial(jax.jit, static_argnums=0)
def bare_pass(decoder: Decoder, params: Any, tokens_BS: jax.Array) -> jax.Array:
    positions_BS = jnp.broadcast_to(jnp.arange(tokens_BS.shape[1], dtype=jnp.int32), tokens_BS.shape)
    hidden_BSE, _ = decoder.apply({"params": params}, tokens_BS, positions_BS)
    unembedding_VE = unembedding(decoder.config, params)

    def chunk(hidden_CE: jax.Array) -> jax.Array:
        return jnp.max(jnp.einsum("ce,ve->cv", hidden_CE, unembedding_VE, preferred_element_type=jnp.float32), axis=-1)

    return jax.lax.map(chunk, hidden_BSE.reshape(-1, CHUNK_TOKENS, hidden_BSE.shape[-1]))


if __name__ == "__main__":
    sys.exit(main())
