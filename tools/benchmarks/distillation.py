"""Ways to learn from one teacher, compared at equal tokens: cross-entropy alone, soft targets, the teacher online.

    python -m tools.benchmarks.distillation PATH --code FOLDER --workdir DIR
    python -m tools.benchmarks.distillation PATH --code FOLDER --workdir DIR --ways text,soft,online --seeds 0,1,2

PATH is a GGUF file or a Hugging Face folder. Every way starts from the same pruned student, reads the same batches of
the same code, and is measured on the same held-out files against the teacher's whole distribution: cross-entropy and
forward KL, nats per token, as mean ± standard deviation over the seeds. Finished runs are kept in DIR, so a killed
comparison goes on where it was.

ways: text         cross-entropy of the code's own tokens
      soft         forward KL to stored soft targets (top-p, K), rest bucket included
      soft_reverse, soft_jsd   the same with reverse KL and JSD(0.5)
      online       forward KL to the teacher's whole distribution, in the step
      online_int8  the same with the teacher's weights in eight bits
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.document import Document
from demiurgic_jax.data.shards import ShardSet, write_shards
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.imported import ImportedModel, import_model
from demiurgic_jax.interop.pruning import evenly_spaced, keep_layers
from demiurgic_jax.sampling.scoring import ScoringConfig, score_shards
from demiurgic_jax.sharding.mesh import make_mesh
from demiurgic_jax.training.config import TrainConfig, make_decoder
from demiurgic_jax.training.heldout import evaluate_groups, heldout_groups
from demiurgic_jax.training.loop import train
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.online_teacher import TeacherConfig, TeacherModel, online_teacher
from demiurgic_jax.training.optimizer import OptimizerConfig, make_optimizer
from demiurgic_jax.training.state import abstract_state
from demiurgic_jax.training.step import make_eval_step

DISTILLED = LossConfig(1.0, chunk_tokens=128)
WAYS: Mapping[str, Mapping[str, Any]] = {
    "text": {"loss": LossConfig(chunk_tokens=128), "soft_targets": 0},
    "soft": {"loss": DISTILLED},
    "soft_reverse": {"loss": replace(DISTILLED, divergence="reverse_kl")},
    "soft_jsd": {"loss": replace(DISTILLED, divergence="jsd")},
    "online": {"loss": DISTILLED, "soft_targets": 0, "teacher": TeacherConfig(online=True)},
    "online_int8": {"loss": DISTILLED, "soft_targets": 0, "teacher": TeacherConfig(True, "int8")},
}
HELDOUT_EVERY = 8  # of the files, one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--code", type=Path, required=True, help="folder of Python files")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--ways", default="text,soft,online", help=f"of {', '.join(WAYS)} (default: %(default)s)")
    parser.add_argument("--seeds", default="0,1,2", help="default: %(default)s")
    parser.add_argument("--layers", type=int, default=15, help="of the teacher's in the student (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--top-k", type=int, default=16)
    parser.add_argument("--top-p", type=float, default=0.9)
    parser.add_argument("--heldout-tokens", type=int, default=4096)
    options = parser.parse_args()
    try:
        ways, seeds = options.ways.split(","), list(map(int, options.seeds.split(",")))
        if unknown := [way for way in ways if way not in WAYS]:
            raise UserError(f"the way {unknown[0]!r} is unknown: choose of {', '.join(WAYS)}")
        compare(import_model(options.teacher), options, ways, seeds)
    except UserError as error:
        print(f"distillation: {error}", file=sys.stderr)
        return 2
    return 0


def compare(teacher: ImportedModel, options: argparse.Namespace, ways: Sequence[str], seeds: Sequence[int]) -> None:
    train_set, heldout_set = shard_sets(teacher, options)
    student, params = keep_layers(
        teacher.params, teacher.config, evenly_spaced(teacher.config.num_layers, options.layers)
    )
    beside = TeacherModel(teacher.config, teacher.params, teacher.tokenizer)
    print("| way | held-out cross-entropy | held-out KL to the teacher |\n|---|---|---|", flush=True)
    for way in ways:
        figures = []
        for seed in seeds:
            config = train_config(options, way, seed)
            folder = options.workdir / f"{way}-{seed}"
            train(
                config,
                student,
                teacher.tokenizer,
                train_set,
                {"heldout": heldout_set},
                folder=folder,
                initial_params=lambda: params,
                provenance={"way": way, "seed": seed},
                on_step=partial(say, f"{way} seed {seed}"),
                open_teacher=lambda: beside,
            )
            figures.append(measured(config, folder, heldout_set, beside))
        columns = [np.array([figure[name] for figure in figures]) for name in ("cross_entropy", "kl")]
        told = " | ".join(f"{values.mean():.4f} ± {values.std(ddof=min(1, len(values) - 1)):.4f}" for values in columns)
        print(f"| {way} | {told} |", flush=True)


def say(run: str, step: int, metrics: Mapping[str, float]) -> None:
    print(f"{run} step {step}: loss {metrics['loss']:.3f}", file=sys.stderr, flush=True)


def train_config(options: argparse.Namespace, way: str, seed: int) -> TrainConfig:
    common = TrainConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        context=options.context,
        seed=seed,
        soft_targets=options.top_k,
        remat="dots",
        checkpoint_every=options.steps,
        keep_checkpoints=1,
        eval_every=options.steps,
        optimizer=OptimizerConfig(learning_rate=options.learning_rate, warmup_steps=max(1, options.steps // 20)),
    )
    return replace(common, **WAYS[way])


def shard_sets(teacher: ImportedModel, options: argparse.Namespace) -> tuple[ShardSet, ShardSet]:
    """Code for training with soft targets, every eighth file held out; the same for every way."""
    wanted = {"train": options.steps * options.batch_size * options.context, "heldout": options.heldout_tokens}
    documents: dict[str, list[Document]] = {"train": [], "heldout": []}
    for number, path in enumerate(sorted(options.code.rglob("*.py"))):
        split = "heldout" if number % HELDOUT_EVERY == 0 else "train"
        left = wanted[split] - sum(len(document.tokens) for document in documents[split])
        ids = teacher.tokenizer.encode(path.read_text(errors="ignore"))[:left] if left > 0 else []
        if ids:
            documents[split].append(Document(str(path.relative_to(options.code)), "python", "code", np.array(ids)))
    scoring = ScoringConfig(options.top_k, options.top_p, options.context)
    sets = []
    for split, chosen in documents.items():
        if not chosen:
            raise UserError(f"{options.code} has too few Python files for a {split} set: name a larger folder")
        folder = options.workdir / "shards"
        provenance = {"files": [[document.key, len(document.tokens)] for document in chosen]}
        text = write_shards(
            folder / "text" / split, chosen, tokenizer=teacher.tokenizer, num_shards=1, provenance=provenance
        )
        scored = score_shards(
            text, folder / split, teacher.config, teacher.params, teacher.tokenizer, scoring, teacher=teacher.source
        )
        assert scored is not None, "one process does all shards"
        sets.append(scored)
    positions = sets[0].manifest["soft_target_positions"]
    print(f"{sets[0].lengths.sum():,} tokens of training code, {positions:,} with soft targets", file=sys.stderr)
    return sets[0], sets[1]


def measured(config: TrainConfig, folder: Path, heldout: ShardSet, teacher: TeacherModel) -> Mapping[str, float]:
    """The trained student against the teacher's whole distribution, whatever it was trained with."""
    opened = open_model(folder / "checkpoints")
    mesh = make_mesh(config.mesh)
    decoder = make_decoder(config, opened.config, mesh)
    beside = online_teacher(teacher.config, teacher.tokenizer.vocab_size, TeacherConfig(True), decoder, mesh)
    abstract = abstract_state(opened.config, make_optimizer(config.optimizer, config.steps), mesh)
    evaluate = make_eval_step(decoder, LossConfig(chunk_tokens=128), mesh, abstract, beside)
    teacher_params = beside.place(teacher)
    groups = heldout_groups({"heldout": heldout}, row_length=config.context, seed=0)
    rows = mesh.shape["data"] * mesh.shape["fsdp"]
    values = evaluate_groups(
        lambda params, batch: evaluate(params, batch, teacher_params), opened.params, groups, rows, mesh
    )
    return {name: values[f"heldout/{name}"] for name in ("cross_entropy", "kl")}


if __name__ == "__main__":
    sys.exit(main())
