"""A 13B student of a larger teacher: its 50,000 answers in five skills, and 40 B tokens of code.

    export TEACHER_API_KEY=...
    python -m experiments.run --config=13b_distill --workdir=/shared/13b_distill --config.hardware=8xA100-80GB \\
        --config.seeds.sources=CODE --config.seeds.licence=MIT

Hours and dollars (on-demand list prices of June 2025) are planned, not run, and memory is the analytic model's; where
the chip's compiler is installed, `python -m tools.plan --config=13b_distill --hardware=NAME` compiles the step:

| hardware    | GB a chip    | hours | dollars |
|-------------|--------------|-------|---------|
| 8xA100-80GB | 74.7 of 81   |   535 |  $7,667 |
| 16xH100     | 58.5 of 81   |   114 |  $5,464 |
| v5e-64      | 10.1 of 17   |   156 | $11,956 |
| v6e-64      | 15.2 of 34   |    42 |  $7,216 |

Other amounts of these chips and several TPU slices (`2xv5p-128`) are laid out alike; `--config.context=8192` or `16384`
makes rows longer and fewer. `docs/training.md` says how a run is started on several hosts.

Expected, not measured: as `7b_distill`, with a lower loss on the same tokens. 40 B tokens are few for this size: 13B
learns its most from 260 B (Hoffmann et al. 2022), so weights to start from matter more.
"""

from ml_collections import ConfigDict

from experiments.configs._student import student


def get_config(hardware: str = "8xA100-80GB", context: int = 4096) -> ConfigDict:
    return student("13b", hardware, context, tokens=40e9, answers=50_000)
