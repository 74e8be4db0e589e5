"""A 1B student of a larger teacher: its 50,000 answers in five skills, and 20 B tokens of code.

    export TEACHER_API_KEY=...
    python -m experiments.run --config=1b_distill --workdir=/shared/1b_distill --config.hardware=8xA100-80GB \\
        --config.seeds.sources=CODE --config.seeds.licence=MIT

Hours and dollars (on-demand list prices of June 2025) are planned, not run, and memory is the analytic model's; where
the chip's compiler is installed, `python -m tools.plan --config=1b_distill --hardware=NAME` compiles the step:

| hardware    | GB a chip    | hours | dollars |
|-------------|--------------|-------|---------|
| 8xA100-80GB | 35.2 of 81   |    23 |    $332 |
| v5e-16      | 9.2 of 17    |    22 |    $415 |
| v5p-8       | 36.3 of 103  |    35 |    $583 |
| v6e-8       | 18.2 of 34   |    11 |    $248 |

Other amounts of these chips and several TPU slices (`2xv5p-128`) are laid out alike; `--config.context=8192` or `16384`
makes rows longer and fewer. `docs/training.md` says how a run is started on several hosts.

Expected, not measured: a model that completes and explains short functions; the first size at which the way of the
larger ones can be tried for the price of a day.
"""

from ml_collections import ConfigDict

from experiments.configs._student import student


def get_config(hardware: str = "v5p-8", context: int = 4096) -> ConfigDict:
    return student("1b", hardware, context, tokens=20e9, answers=50_000)
