"""Ways to learn from one teacher, compared at equal tokens over several seeds.

    python -m tools.benchmarks.distillation PATH --code FOLDER --workdir DIR
    python -m tools.benchmarks.distillation PATH --code FOLDER --workdir DIR --study imitation
    python -m tools.benchmarks.distillation PATH --code FOLDER --workdir DIR --study tokenizer --layers 8

PATH is the teacher: a GGUF file or a Hugging Face folder. FOLDER holds Python files; one window of each is taken, and
every eighth file is held out. The student is some of the teacher's layers. Within a study every run starts from the
same student and reads as many tokens of one pool, in an order of its seed's; runs differ in nothing but the way.

studies: targets    code, with the teacher's tokenizer. Held-out cross-entropy, and KL to the teacher's whole
                    distribution, nats per token
         imitation  the teacher's own continuations of code. The same on held-out code, on held-out continuations, and
                    cross-entropy of demiurgic-mini's reference answers
         tokenizer  code, with a SentencePiece tokenizer trained here; the teacher's vocabulary is mapped onto it. Bits
                    per byte, and KL to the teacher's targets in the student's tokens

ways:    text         cross-entropy of the text's own tokens
         soft         forward KL to stored soft targets, sampled
         mixed        half of soft, half of text
         soft_top_p, mixed_top_p  the same with top-p ones, rest bucket included
         soft_reverse, soft_jsd   reverse KL and JSD(0.5) to the same
         online       forward KL to the teacher's whole distribution, in the step (not for tokenizer)
         online_int8  the same with the teacher's weights in eight bits
         hidden       online, and 1 - the cosine between the two's last hidden states
         on_policy, on_policy_half  online, and a quarter or half of the steps on the student's own continuations

The table goes to stdout and, after each run, to DIR/table.md, as mean ± standard deviation over the seeds, with a
picture in DIR/table.svg. Seeds come before ways, so that a comparison that is stopped early is still one. Finished
runs are kept: the same command goes on where it was, and with more --ways or --seeds it adds them.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from demiurgic_jax.checkpoints.checkpoint import open_model
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.imported import ImportedModel, import_model
from demiurgic_jax.interop.pruning import evenly_spaced, keep_layers
from demiurgic_jax.interop.vocabulary_trimming import trim_vocabulary
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.sampling.sampled_tokens import sampled_tokens
from demiurgic_jax.training.config import COMPUTE_DTYPES
from demiurgic_jax.training.loop import train
from demiurgic_jax.training.online_teacher import TeacherModel
from experiments.stages.cache import prepare_jax
from experiments.student import rows_for
from tools.benchmarks.distillation_data import (
    code_windows,
    continued,
    documents_of,
    own_tokenizer,
    reference_answers,
    scored_set,
    target_bytes,
    text_set,
)
from tools.benchmarks.distillation_measures import HeldOut, held_out
from tools.benchmarks.distillation_table import write_table
from tools.benchmarks.distillation_ways import WAYS, kind_of, scoring_config, train_config

STUDIES = ("targets", "imitation", "tokenizer")
MINI_ROW = 512  # tokens of a problem with its answer
NO_SETTINGS = {"teacher", "workdir", "ways", "seeds", "keep_checkpoints"}  # what two commands on one DIR may differ in


@dataclass(frozen=True)
class Comparison:
    """What is the same for every run."""

    teacher: ImportedModel
    tokenizer: Tokenizer
    student: ModelConfig
    params: Any
    text: ShardSet
    scored: Mapping[str, ShardSet]  # the same with soft targets, by their kind
    heldout: Sequence[HeldOut]

    def train_set(self, way: str) -> ShardSet:
        kind = kind_of(way)
        return self.scored[kind] if kind else self.text

    def measure(self, model: ModelConfig, params: Any) -> dict[str, float]:
        return {name: value for each in self.heldout for name, value in each.measure(model, params).items()}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        ways, seeds = options.ways.split(","), list(map(int, options.seeds.split(",")))
        if unknown := [way for way in ways if way not in WAYS]:
            raise UserError(f"the way {unknown[0]!r} is unknown: choose of {', '.join(WAYS)}")
        if online := [way for way in ways if "teacher" in WAYS[way] and options.study == "tokenizer"]:
            raise UserError(f"the way {online[0]} needs one tokenizer: leave it out of --study tokenizer")
        prepare_jax()
        compare(options, ways, seeds)
    except UserError as error:
        print(f"distillation: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("teacher", type=Path)
    made.add_argument("--code", type=Path, required=True, help="folder of Python files")
    made.add_argument("--workdir", type=Path, required=True, help="one for each study and its settings")
    made.add_argument("--study", choices=STUDIES, default="targets", help="default: %(default)s")
    made.add_argument("--ways", default="text,soft", help="default: %(default)s")
    made.add_argument("--seeds", default="0,1,2", help="default: %(default)s")
    made.add_argument("--keep-checkpoints", action="store_true", help="for tools.evaluate; else measured and removed")
    student = made.add_argument_group("student and training")
    student.add_argument("--layers", type=int, default=15, help="of the teacher's, spread evenly (default: 15)")
    student.add_argument(
        "--start",
        type=Path,
        metavar="CHECKPOINTS",
        help="a trained student's, in the place of --layers: say, DIR/runs/"
        "soft-0/checkpoints of a comparison with --keep-checkpoints",
    )
    student.add_argument("--vocab-size", type=int, default=4096, help="of --study tokenizer (default: %(default)s)")
    student.add_argument("--steps", type=int, default=100, help="default: %(default)s")
    student.add_argument("--batch-size", type=int, default=4, help="rows (default: %(default)s)")
    student.add_argument("--context", type=int, default=256, help="tokens of a row (default: %(default)s)")
    student.add_argument("--learning-rate", type=float, default=4e-4, help="default: %(default)s")
    student.add_argument(
        "--distill-weight", type=float, default=1.0, help="α of all ways but text and mixed (default: 1)"
    )
    student.add_argument("--temperature", type=float, default=1.0, help="T of all ways but text (default: 1)")
    student.add_argument("--compute-dtype", choices=COMPUTE_DTYPES, default="float32", help="default: %(default)s")
    data = made.add_argument_group("data")
    data.add_argument("--samples", type=int, default=40, help="K of sampled soft targets (default: %(default)s)")
    data.add_argument("--top-k", type=int, default=15, help="K of top-p soft targets (default: %(default)s)")
    data.add_argument("--top-p", type=float, default=0.9, help="mass of top-p soft targets (default: %(default)s)")
    data.add_argument("--file-tokens", type=int, default=512, help="of one file at most (default: %(default)s)")
    data.add_argument("--prefix", type=int, default=32, help="tokens that a continuation begins with (default: 32)")
    data.add_argument("--pool", type=float, default=1.5, help="the pool, in tokens of a run (default: %(default)s)")
    data.add_argument("--heldout-tokens", type=int, default=4096, help="of each held-out set (default: %(default)s)")
    return made


def compare(options: argparse.Namespace, ways: Sequence[str], seeds: Sequence[int]) -> None:
    """Makes the runs that are missing, and tells the table after each."""
    require_settings(options)
    results = {
        (way, seed): json.loads(path.read_text())
        for way in ways
        for seed in seeds
        if (path := options.workdir / "runs" / f"{way}-{seed}" / "result.json").exists()
    }
    missing = [(way, seed) for seed in seeds for way in ways if (way, seed) not in results]
    fixed = options.workdir / "fixed.json"
    if missing or not fixed.exists():
        comparison = prepared(import_model(options.teacher), options, ways)
        if not fixed.exists():
            write_json(fixed, unlearnt(comparison, options))
        for number, (way, seed) in enumerate(missing):
            name = f"{way}-{seed}, run {number + 1} of {len(missing)}"
            results[way, seed] = run(comparison, options, way, seed, name)
            write_table(options.workdir, results)
    print(write_table(options.workdir, results))


def require_settings(options: argparse.Namespace) -> None:
    """UserError where DIR holds runs of other settings: one table is of one comparison."""
    now = {name: str(value) for name, value in vars(options).items() if name not in NO_SETTINGS}
    now["teacher"] = options.teacher.name
    path = options.workdir / "settings.json"
    if path.exists():
        then = json.loads(path.read_text())
        for name in now:
            if then.get(name) != now[name]:
                raise UserError(
                    f"{options.workdir} holds runs with --{name.replace('_', '-')} {then.get(name)}, not {now[name]}: "
                    "give the same, or another --workdir"
                )
    write_json(path, now)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def prepared(teacher: ImportedModel, options: argparse.Namespace, ways: Sequence[str]) -> Comparison:
    """Student and shards. All that costs a pass of the teacher is kept in DIR."""
    tokenizer, folder = teacher.tokenizer, options.workdir / "shards"
    windows = code_windows(options.code, 8 * options.file_tokens)
    if options.study == "tokenizer":
        tokenizer = own_tokenizer(options.workdir / "tokenizer", windows.train, options.vocab_size)
    student, params = untrained(teacher, tokenizer, options)
    pool = int(options.pool * options.steps * options.batch_size * options.context)
    limits = {"train": pool, "heldout": options.heldout_tokens}
    chosen = {"train": windows.train, "heldout": windows.heldout}
    code = {
        split: documents_of(chosen[split], tokenizer, limits[split], options.file_tokens)
        for split in (("heldout",) if options.study == "imitation" else limits)
    }
    said = {}
    if options.study == "imitation":
        said = {
            split: continued(
                teacher,
                chosen[split],
                folder / f"said-{split}.jsonl",
                limits[split],
                options.context,
                options.prefix,
            )
            for split in limits
        }
    text = text_set(folder / "text" / "train", (said or code)["train"], tokenizer)
    kinds = {kind for way in ways if (kind := kind_of(way))}
    scored = {
        kind: scored_set(text, folder / kind, teacher, tokenizer, scoring_config(options, kind))
        for kind in sorted(kinds)
    }
    heldout_text = text_set(folder / "text" / "heldout", code["heldout"], tokenizer)
    path = options.workdir / "data.json"
    known = json.loads(path.read_text())["soft_target_bytes"] if path.exists() else {}
    write_json(
        path,
        {
            "tokens": int(text.lengths.sum()),
            "documents": len(text),
            "soft_target_bytes": known | {kind: target_bytes(text, shards) for kind, shards in scored.items()},
        },
    )
    if options.study == "tokenizer":
        heldout_scored = scored_set(
            heldout_text, folder / "heldout", teacher, tokenizer, scoring_config(options, "top_p")
        )
        fields = ("bits_per_byte", "kl")
        measured = [
            held_out("code", heldout_scored, tokenizer, options.context, soft_targets=options.top_k, fields=fields)
        ]
    else:
        fields = ("cross_entropy", "kl")
        measured = [held_out("code", heldout_text, tokenizer, options.context, teacher=teacher, fields=fields)]
    if options.study == "imitation":
        own = text_set(folder / "text" / "said", said["heldout"], tokenizer)
        mini = text_set(folder / "text" / "mini", reference_answers(tokenizer, MINI_ROW), tokenizer)
        measured.append(held_out("the teacher's text", own, tokenizer, options.context, teacher=teacher, fields=fields))
        measured.append(held_out("demiurgic-mini", mini, tokenizer, MINI_ROW))
    return Comparison(teacher, tokenizer, student, params, text, scored, measured)


def untrained(teacher: ImportedModel, tokenizer: Tokenizer, options: argparse.Namespace) -> tuple[ModelConfig, Any]:
    """The student that all runs start as: the one of --start, or some of the teacher's layers."""
    if options.start is not None:
        opened = open_model(options.start)
        if opened.tokenizer.fingerprint != tokenizer.fingerprint:
            raise UserError(f"the model in {options.start} has another tokenizer than this study: start from another")
        return opened.config, opened.params
    layers = evenly_spaced(teacher.config.num_layers, options.layers)
    student, params = keep_layers(teacher.params, teacher.config, layers)
    if tokenizer.fingerprint != teacher.tokenizer.fingerprint:
        student, params = trim_vocabulary(params, student, teacher.tokenizer, tokenizer, rows_for(tokenizer))
    return student, params


def unlearnt(comparison: Comparison, options: argparse.Namespace) -> dict[str, Any]:
    """What is known before the first run: sizes, the teacher's own figures, the student's before it learnt."""
    teacher, tokenizer = comparison.teacher, comparison.tokenizer
    rows = {"the student, untrained": comparison.measure(comparison.student, comparison.params)}
    if tokenizer.fingerprint == teacher.tokenizer.fingerprint:
        rows["the teacher"] = comparison.measure(teacher.config, teacher.params)
    return {
        "study": options.study,
        "rows": rows,
        "heldout": {each.name: each.describe() for each in comparison.heldout},
        "tokens_of_a_run": options.steps * options.batch_size * options.context,
    }


def run(comparison: Comparison, options: argparse.Namespace, way: str, seed: int, name: str) -> dict[str, float]:
    """Trains and measures one student. A killed run begins anew; a trained one is only measured."""
    folder = options.workdir / "runs" / f"{way}-{seed}"
    config = train_config(options, way, seed, kind_of(way))
    began = time.monotonic()

    def say(step: int, metrics: Mapping[str, float]) -> None:
        left = (config.steps - step) * (time.monotonic() - began) / step
        print(
            f"{name}: step {step} of {config.steps}, loss {metrics['loss']:.3f}, {left / 60:.1f} min left",
            file=sys.stderr,
            flush=True,
        )

    def sample(params: Any, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        return sampled_tokens(
            comparison.student,
            jax.device_get(params),
            comparison.tokenizer,
            prompts,
            seed=seed,
            max_tokens=config.on_policy.max_tokens,
            temperature=config.on_policy.temperature,
            max_context=options.context,
        )

    teacher = comparison.teacher
    train(
        config,
        comparison.student,
        comparison.tokenizer,
        comparison.train_set(way),
        {},
        folder=folder,
        initial_params=lambda: comparison.params,
        provenance={"study": options.study, "way": way, "seed": seed},
        on_step=say,
        open_teacher=lambda: TeacherModel(teacher.config, teacher.params, teacher.tokenizer),
        sample=sample,
    )
    opened = open_model(folder / "checkpoints")
    figures = comparison.measure(opened.config, opened.params)
    write_json(folder / "result.json", figures)
    if not options.keep_checkpoints:
        shutil.rmtree(folder / "checkpoints")
    return figures


if __name__ == "__main__":
    sys.exit(main())
