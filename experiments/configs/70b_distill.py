"""A 70B student of a larger teacher: its 50,000 answers in five skills, and 40 B tokens of code.

    export TEACHER_API_KEY=...
    python -m experiments.run --config=70b_distill --workdir=/shared/70b_distill --config.hardware=64xA100-80GB \\
        --config.seeds.sources=CODE --config.seeds.licence=MIT

Hours and dollars (on-demand list prices of June 2025) are planned, not run, and memory is the analytic model's; where
the chip's compiler is installed, `python -m tools.plan --config=70b_distill --hardware=NAME` compiles the step:

| hardware     | GB a chip    | hours | dollars |
|--------------|--------------|-------|---------|
| 64xA100-80GB | 56.6 of 81   |   432 | $49,471 |
| 64xH100      | 56.6 of 81   |   184 | $35,270 |
| v5e-256      | 15.0 of 17   |   199 | $61,040 |
| v5p-256      | 75.4 of 103  |   127 | $68,267 |
| v6e-256      | 22.0 of 34   |    54 | $37,134 |

Other amounts of these chips and several TPU slices (`2xv5p-128`) are laid out alike; `--config.context=8192` or `16384`
makes rows longer and fewer. `docs/training.md` says how a run is started on several hosts.

Expected, not measured: the shape of Llama 2 70B. 40 B tokens from random numbers are far too few for it: give it
weights to start from (`--config.init.kind=checkpoint --config.init.checkpoint=DIR`), whom the same run teaches the
five skills.
"""

from ml_collections import ConfigDict

from experiments.configs._student import student


def get_config(hardware: str = "64xA100-80GB", context: int = 4096) -> ConfigDict:
    return student("70b", hardware, context, tokens=40e9, answers=50_000, learning_rate=1.5e-4)
