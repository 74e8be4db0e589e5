"""What the experiments from 1B to 70B have in common: `quickstart` with other amounts, for hardware by its name."""

from pathlib import Path

from ml_collections import ConfigDict

from demiurgic_jax.model.config import named_config
from experiments.configs import quickstart
from experiments.configs._layouts import layout

# Tokens of a step, whatever the context and the hardware (Llama 2: 4 M).
STEP_TOKENS = 1 << 22
# Code may be seen so often before new code would teach markedly more (Muennighoff et al. 2023, arXiv:2305.16264).
EPOCHS = 4


def student(
    size: str, hardware: str, context: int, *, tokens: float, answers: int, learning_rate: float = 3e-4
) -> ConfigDict:
    """A student of the named `size`, from random numbers, on about `tokens` tokens of code and on `answers` of a
    teacher that is asked over HTTP: a quarter of them solved exercises, a fifth completions, the others explanations,
    repairs, simpler code and translations. An exercise takes three requests, some others two.

    `hardware` and `context` decide the fields of `train` that depend on them; what is set on the command line goes
    over that. UserError where no layout is known.
    """
    laid = layout(size, hardware, context, STEP_TOKENS)
    steps = round(tokens / (laid.batch_size * context))
    config = quickstart.get_config()
    config.hardware, config.context = hardware, context
    config.seeds.update({"sources": ("code",), "max_files": 10_000_000, "max_lines": 80, "heldout_fraction": 0.001})
    config.seeds.near_duplicates.remove = True
    config.teacher.update(
        {
            # Apache-2.0, and served with raw completions, which `complete` asks for; list price of June 2025.
            "path": "",
            "url": "https://api.together.xyz/v1",
            "model": "Qwen/Qwen2.5-Coder-32B-Instruct",
            "api_key_env": "TEACHER_API_KEY",
            "dollars_per_million_input": 0.8,
            "dollars_per_million_output": 0.8,
            "budget_dollars": 2.0 * answers / 1000,
            "concurrency": 64,
        }
    )
    shares = {"complete": 20, "generate": 25, "explain": 15, "fix": 15, "refactor": 10, "translate": 15}
    config.teach.tasks = {task: answers * share // 100 for task, share in shares.items()}
    config.teach.update({"max_tokens": 768, "temperature": 0.6, "prompts": "styled"})
    config.verify.tests = "behaviour"
    config.tokenizer.update({"kind": "sentencepiece", "vocab_size": named_config(size).vocab_size})
    config.shards.update(
        {
            "num_shards": 256,
            "code_tokens": int(tokens / EPOCHS),
            "heldout_code_tokens": 2_000_000,
            "max_document_tokens": context,
            "soft_targets": 0,
        }
    )
    config.init.update({"kind": "random", "layers": 0, "size": size})
    config.train.update(
        {
            "steps": steps,
            "batch_size": laid.batch_size,
            "context": context,
            "grad_accum_steps": laid.grad_accum_steps,
            "soft_targets": 0,
            "compute_dtype": "bfloat16",
            "remat": laid.remat,
            # At the hours that a step takes on the smallest hardware, half an hour to two of lost work.
            "checkpoint_every": 50,
            "keep_checkpoints": 2,
            "eval_every": 250,
        }
    )
    config.train.mesh.update(laid.mesh)
    config.train.optimizer.update(
        {"learning_rate": learning_rate, "warmup_steps": steps // 50, "final_fraction": 0.1, "weight_decay": 0.1}
    )
    config.train.loss.update({"distill_weight": 0.0, "z_loss": 1e-4, "chunk_tokens": 512})
    config.evaluate.update({"max_tokens": 256, "max_context": context})
    return config


def taught_openly(config: ConfigDict, teacher: str, on_policy: float) -> ConfigDict:
    """`config` with a teacher whose weights are in `teacher`: served here, and its distribution learnt in two phases.

    Most steps read stored soft targets, which cost what text costs. The last tenth has the teacher in the step, where
    the share `on_policy` of the steps are the student's own texts (Agarwal et al. 2024, arXiv:2306.13649).
    """
    config.teacher.update(
        {"path": teacher, "url": "", "model": Path(teacher).name, "api_key_env": "", "budget_dollars": 0.0}
        | {"dollars_per_million_input": -1.0, "dollars_per_million_output": -1.0}
    )
    config.tokenizer.update({"kind": "teacher", "vocab_size": 0})
    config.shards.update({"soft_targets": 40, "soft_target_kind": "sampled"})
    config.train.soft_targets = 40
    config.train.loss.distill_weight = 0.9
    late = max(1, config.train.steps // 10)
    config.phases = (
        {"name": "soft_targets", "steps": config.train.steps - late},
        {
            "name": "online",
            "steps": late,
            "soft_targets": 0,
            "teacher": {"online": True, "weights": "int8"},
            "on_policy": {"fraction": on_policy, "divergence": "reverse_kl"},
            "optimizer": {"warmup_steps": late // 20, "learning_rate": config.train.optimizer.learning_rate / 3},
        },
    )
    return config
