"""The classic way on a laptop: a corpus of one's own, a tokenizer and a small network from scratch.

    python -m experiments.run --config=tiny_scratch

The packages of the standard library go through every stage of the corpus pipeline that `7b_scratch` has: licences,
quality, exact and near-duplicates, syntax, benchmark problems, secrets, the order within repositories. Then a
SentencePiece tokenizer is trained on a sample, and a small network on the corpus and on a few answers of the embedded
teacher. About 25 minutes on two idle cores are planned, not measured; `python -m tools.benchmarks.corpus bits` says
how the network compares with xz. With code of your own, in any of the seven languages:

    python -m experiments.run --config=tiny_scratch --workdir=runs/mine \\
        --config.corpus.sources="({'folders': '~/src'},)" --config.corpus.heldout_fraction=0.1
"""

import sysconfig

from ml_collections import ConfigDict

from experiments.configs import quickstart_scratch


def get_config() -> ConfigDict:
    """`quickstart_scratch` with a corpus."""
    config = quickstart_scratch.get_config()
    library = {"folders": sysconfig.get_path("stdlib"), "licence": "PSF-2.0"}
    config.corpus.update({"sources": (library,), "heldout_fraction": 0.1, "parts": 4, "sample_megabytes": 8.0})
    config.teach.tasks = {"complete": 10, "generate": 0, "explain": 0, "fix": 0, "refactor": 0}
    config.shards.update({"code_tokens": 0, "heldout_code_tokens": 40_000, "max_document_tokens": 4096})
    config.train.update({"steps": 1000, "eval_every": 200, "checkpoint_every": 200})
    config.train.mixture.update({"sets": ("corpus", "train"), "weights": (0.98, 0.02)})
    config.train.fim.update({"rate": 0.3})
    return config
