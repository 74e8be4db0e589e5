"""A 7B network on 140 B tokens of code, the classic way, for comparison with `7b_distill`.

The code goes through the corpus pipeline (docs/data.md), on this machine, SLURM or Ray; rows of its files have
`train.fim` as they are read. The teacher is asked 1,000 questions only, so that the model has seen the form of the five
skills.

    export TEACHER_API_KEY=...
    python -m experiments.run --config=7b_scratch --workdir=/shared/7b_scratch --config.hardware=8xA100-80GB \\
        --config.corpus.sources="({'folders': 'CODE'}, {'rows': 'the-stack/*.parquet'})" \\
        --config.corpus.benchmarks=BENCHMARKS --config.seeds.sources=CODE

Hours and dollars (on-demand list prices of June 2025) are planned, not run; memory of GPUs is the compiler's, of
TPUs in part the analytic model's (docs/performance.md). It is said anew by
`python -m tools.plan --config=7b_scratch --hardware=NAME`:

| hardware    | GB a chip    | hours | dollars |
|-------------|--------------|-------|---------|
| 8xA100-80GB | 64.3 of 81   | 1,004 | $14,370 |
| 8xH100      | 64.1 of 81   |   428 | $10,245 |
| v5e-64      | 5.6 of 17    |   248 | $19,074 |
| v5p-32      | 59.8 of 103  |   378 | $25,426 |
| v6e-64      | 9.1 of 34    |    57 |  $9,832 |

Other amounts of these chips and several TPU slices (`2xv5p-128`) are laid out alike; `--config.context=8192` or `16384`
makes rows longer and fewer. `docs/training.md` says how a run is started on several hosts.

Expected, not measured: a base model of Llama 2 7B's shape on a fourteenth of its tokens, code only; weak at following
instructions.
"""

from ml_collections import ConfigDict

from experiments.configs._student import student


def get_config(hardware: str = "8xA100-80GB", context: int = 4096) -> ConfigDict:
    config = student("7b", hardware, context, tokens=140e9, answers=1000)
    config.corpus.sources = ("code",)
    config.shards.code_tokens = 0  # the corpus has it all
    config.train.mixture.update({"sets": ("corpus", "train"), "weights": (0.9999, 0.0001)})
    config.train.packing = "concat"
    config.train.fim.rate = 0.5
    return config
