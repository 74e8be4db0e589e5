"""A 7B network on 140 B tokens of code, the classic way, for comparison with `7b_distill`.

The teacher is asked 1,000 questions only, so that the model has seen the form of the five skills.

    export TEACHER_API_KEY=...
    python -m experiments.run --config=7b_scratch --workdir=/shared/7b_scratch --config.hardware=8xA100-80GB \\
        --config.seeds.sources=CODE --config.seeds.licence=MIT

Hours and dollars (on-demand list prices of June 2025) are planned, not run, and memory is the analytic model's; where
the chip's compiler is installed, `python -m tools.plan --config=7b_scratch --hardware=NAME` compiles the step:

| hardware    | GB a chip    | hours | dollars |
|-------------|--------------|-------|---------|
| 8xA100-80GB | 70.5 of 81   |   982 | $14,043 |
| 8xH100      | 70.5 of 81   |   418 |  $9,999 |
| v5e-64      | 9.8 of 17    |   286 | $21,931 |
| v5p-32      | 60.7 of 103  |   363 | $24,366 |
| v6e-64      | 28.5 of 34   |    61 | $10,498 |

Other amounts of these chips and several TPU slices (`2xv5p-128`) are laid out alike; `--config.context=8192` or `16384`
makes rows longer and fewer. `docs/training.md` says how a run is started on several hosts.

Expected, not measured: a base model of Llama 2 7B's shape on a fourteenth of its tokens, code only; weak at following
instructions.
"""

from ml_collections import ConfigDict

from experiments.configs._student import student


def get_config(hardware: str = "8xA100-80GB", context: int = 4096) -> ConfigDict:
    return student("7b", hardware, context, tokens=140e9, answers=1000)
