"""A 34B student of a larger teacher: its 50,000 answers in five skills, and 40 B tokens of code.

    export TEACHER_API_KEY=...
    python -m experiments.run --config=34b_distill --workdir=/shared/34b_distill --config.hardware=16xA100-80GB \\
        --config.seeds.sources=CODE --config.seeds.licence=MIT

Hours and dollars (on-demand list prices of June 2025) are planned, not run, and memory is the analytic model's; where
the chip's compiler is installed, `python -m tools.plan --config=34b_distill --hardware=NAME` compiles the step:

| hardware     | GB a chip    | hours | dollars |
|--------------|--------------|-------|---------|
| 16xA100-80GB | 66.1 of 81   |   854 | $24,448 |
| 32xH100      | 45.0 of 81   |   182 | $17,421 |
| v5e-256      | 9.3 of 17    |    98 | $30,192 |
| v5p-128      | 77.4 of 103  |   125 | $33,711 |
| v6e-128      | 25.7 of 34   |    53 | $18,349 |

Other amounts of these chips and several TPU slices (`2xv5p-128`) are laid out alike; `--config.context=8192` or `16384`
makes rows longer and fewer. `docs/training.md` says how a run is started on several hosts.

Expected, not measured: the shape of Code Llama 34B. 40 B tokens from random numbers are far too few for it: give it
weights to start from (`--config.init.kind=checkpoint --config.init.checkpoint=DIR`), whom the same run teaches the
five skills.
"""

from ml_collections import ConfigDict

from experiments.configs._student import student


def get_config(hardware: str = "16xA100-80GB", context: int = 4096) -> ConfigDict:
    return student("34b", hardware, context, tokens=40e9, answers=50_000, learning_rate=1.5e-4)
