"""A 70B student of a larger teacher: its 50,000 answers in five skills, and 40 B tokens of code.

    export TEACHER_API_KEY=...
    python -m experiments.run --config=70b_distill --workdir=/shared/70b_distill --config.hardware=64xA100-80GB \\
        --config.seeds.sources=CODE --config.seeds.licence=MIT

Hours and dollars (on-demand list prices of June 2025) are planned, not run; memory of GPUs is the compiler's, of
TPUs in part the analytic model's (docs/performance.md). It is said anew by
`python -m tools.plan --config=70b_distill --hardware=NAME`:

| hardware     | GB a chip    | hours | dollars |
|--------------|--------------|-------|---------|
| 64xA100-80GB | 54.1 of 81   |   432 | $49,498 |
| 64xH100      | 54.1 of 81   |   184 | $35,289 |
| v5e-256      | 10.4 of 17   |   144 | $44,256 |
| v5p-256      | 76.2 of 103  |   111 | $59,579 |
| v6e-256      | 12.3 of 34   |    35 | $24,130 |

Other amounts of these chips and several TPU slices (`2xv5p-128`) are laid out alike; `--config.context=8192` or `16384`
makes rows longer and fewer. `docs/training.md` says how a run is started on several hosts.

With a teacher's weights at hand, `--config.open_teacher=FOLDER` (Hugging Face, or a GGUF file) has the student learn
its distribution too, in its tokens: nine tenths of the steps from samples stored beside the code (at most 40 bytes a
token), the last tenth with the teacher in the step in eight bits. A quarter of those learn from the student's own
texts; that share is `--config.on_policy`, and must be 0 where the run has several processes.

Expected, not measured: the shape of Llama 2 70B. 40 B tokens from random numbers are far too few for it: give it
weights to start from (`--config.init.kind=checkpoint --config.init.checkpoint=DIR`), whom the same run teaches the
five skills.
"""

from ml_collections import ConfigDict

from experiments.configs._student import student, taught_openly


def get_config(
    hardware: str = "64xA100-80GB", context: int = 4096, open_teacher: str = "", on_policy: float = 0.25
) -> ConfigDict:
    config = student("70b", hardware, context, tokens=40e9, answers=50_000, learning_rate=1.5e-4)
    return taught_openly(config, open_teacher, on_policy) if open_teacher else config
