"""A 7B student of a larger teacher: its 50,000 answers in five skills, and 40 B tokens of code.

    export TEACHER_API_KEY=...
    python -m experiments.run --config=7b_distill --workdir=/shared/7b_distill --config.hardware=8xA100-80GB \\
        --config.seeds.sources=CODE --config.seeds.licence=MIT

Hours and dollars (on-demand list prices of June 2025) are planned, not run, and memory is the analytic model's; where
the chip's compiler is installed, `python -m tools.plan --config=7b_distill --hardware=NAME` compiles the step:

| hardware    | GB a chip    | hours | dollars |
|-------------|--------------|-------|---------|
| 8xA100-80GB | 70.5 of 81   |   280 |  $4,012 |
| 8xH100      | 70.5 of 81   |   119 |  $2,857 |
| 8xH200      | 123.3 of 147 |   119 |  $3,812 |
| v5e-64      | 9.8 of 17    |    82 |  $6,266 |
| v5p-32      | 60.7 of 103  |   104 |  $6,962 |
| v6e-64      | 28.5 of 34   |    17 |  $3,000 |

Other amounts of these chips and several TPU slices (`2xv5p-128`) are laid out alike; `--config.context=8192` or `16384`
makes rows longer and fewer. `docs/training.md` says how a run is started on several hosts.

Expected, not measured: a code model of the shape of Llama 2 7B that follows instructions in the five skills. From
random numbers on 40 B tokens it stays behind 7B models of 500 B tokens and more; from weights that you have
(`--config.init.kind=checkpoint`) it need not.
"""

from ml_collections import ConfigDict

from experiments.configs._student import student


def get_config(hardware: str = "8xA100-80GB", context: int = 4096) -> ConfigDict:
    return student("7b", hardware, context, tokens=40e9, answers=50_000)
