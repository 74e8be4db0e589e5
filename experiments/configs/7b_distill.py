"""A 7B student of a larger teacher: its 50,000 answers in five skills, and 40 B tokens of code.

    export TEACHER_API_KEY=...
    python -m experiments.run --config=7b_distill --workdir=/shared/7b_distill --config.hardware=8xA100-80GB \\
        --config.seeds.sources=CODE --config.seeds.licence=MIT

Hours and dollars (on-demand list prices of June 2025) are planned, not run; memory of GPUs is the compiler's, of
TPUs in part the analytic model's (docs/performance.md). It is said anew by
`python -m tools.plan --config=7b_distill --hardware=NAME`:

| hardware    | GB a chip    | hours | dollars |
|-------------|--------------|-------|---------|
| 8xA100-80GB | 64.3 of 81   |   287 |  $4,106 |
| 8xH100      | 64.1 of 81   |   122 |  $2,927 |
| 8xH200      | 110.1 of 147 |   122 |  $3,906 |
| v5e-64      | 5.6 of 17    |    71 |  $5,450 |
| v5p-32      | 59.8 of 103  |   108 |  $7,265 |
| v6e-64      | 9.1 of 34    |    16 |  $2,809 |

Other amounts of these chips and several TPU slices (`2xv5p-128`) are laid out alike; `--config.context=8192` or `16384`
makes rows longer and fewer. `docs/training.md` says how a run is started on several hosts.

With a teacher's weights at hand, `--config.open_teacher=FOLDER` (Hugging Face, or a GGUF file) has the student learn
its distribution too, in its tokens: nine tenths of the steps from samples stored beside the code (at most 40 bytes a
token), the last tenth with the teacher in the step in eight bits. A quarter of those learn from the student's own
texts; that share is `--config.on_policy`, and must be 0 where the run has several processes.

Expected, not measured: a code model of the shape of Llama 2 7B that follows instructions in the five skills. From
random numbers on 40 B tokens it stays behind 7B models of 500 B tokens and more; from weights that you have
(`--config.init.kind=checkpoint`) it need not.
"""

from ml_collections import ConfigDict

from experiments.configs._student import student, taught_openly


def get_config(
    hardware: str = "8xA100-80GB", context: int = 4096, open_teacher: str = "", on_policy: float = 0.25
) -> ConfigDict:
    config = student("7b", hardware, context, tokens=40e9, answers=50_000)
    return taught_openly(config, open_teacher, on_policy) if open_teacher else config
