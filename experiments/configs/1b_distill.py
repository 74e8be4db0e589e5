"""A 1B student of a larger teacher: its 50,000 answers in five skills, and 20 B tokens of code.

    export TEACHER_API_KEY=...
    python -m experiments.run --config=1b_distill --workdir=/shared/1b_distill --config.hardware=8xA100-80GB \\
        --config.seeds.sources=CODE --config.seeds.licence=MIT

Hours and dollars (on-demand list prices of June 2025) are planned, not run; memory of GPUs is the compiler's, of
TPUs in part the analytic model's (docs/performance.md). It is said anew by
`python -m tools.plan --config=1b_distill --hardware=NAME`:

| hardware    | GB a chip    | hours | dollars |
|-------------|--------------|-------|---------|
| 8xA100-80GB | 30.7 of 81   |    24 |    $343 |
| v5e-16      | 10.3 of 17   |    23 |    $433 |
| v5p-8       | 40.3 of 103  |    43 |    $727 |
| v6e-8       | 18.6 of 34   |    10 |    $225 |

Other amounts of these chips and several TPU slices (`2xv5p-128`) are laid out alike; `--config.context=8192` or `16384`
makes rows longer and fewer. `docs/training.md` says how a run is started on several hosts.

With a teacher's weights at hand, `--config.open_teacher=FOLDER` (Hugging Face, or a GGUF file) has the student learn
its distribution too, in its tokens: nine tenths of the steps from samples stored beside the code (at most 40 bytes a
token), the last tenth with the teacher in the step in eight bits. A quarter of those learn from the student's own
texts; that share is `--config.on_policy`, and must be 0 where the run has several processes.

Expected, not measured: a model that completes and explains short functions; the first size at which the way of the
larger ones can be tried for the price of a day.
"""

from ml_collections import ConfigDict

from experiments.configs._student import student, taught_openly


def get_config(
    hardware: str = "v5p-8", context: int = 4096, open_teacher: str = "", on_policy: float = 0.25
) -> ConfigDict:
    config = student("1b", hardware, context, tokens=20e9, answers=50_000)
    return taught_openly(config, open_teacher, on_policy) if open_teacher else config
