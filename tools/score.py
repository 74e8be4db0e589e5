"""An open teacher's soft targets beside the tokens of any shard set.

    python -m tools.score SOURCE FOLDER --teacher PATH                       PATH: a GGUF file or a Hugging Face folder
    python -m tools.score SOURCE FOLDER --teacher PATH --part=0/4            one of four processes, each on its own
    python -m tools.score SOURCE FOLDER --teacher PATH --fsdp=8 --compute-dtype=bfloat16 --batch-tokens=65536

FOLDER becomes SOURCE again, with the teacher's distribution of every token that is learnt. Where SOURCE was made with
another tokenizer than the teacher's, name the student's with --student: the teacher then reads the text in its own
tokens, and what it says is told in the student's. A killed job goes on with the first document that is missing; of
several parts, the last one to finish closes the set.
"""

import argparse
import sys
from pathlib import Path

from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.data.soft_targets import SOFT_TARGET_KINDS
from demiurgic_jax.data.tokenizer import load_tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.sampling.cross_tokenizer import score_shards_across
from demiurgic_jax.sampling.scoring import ScoringConfig, score_shards
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.training.config import COMPUTE_DTYPES

# At most 40 bytes a token on code, with the gradients of tools/benchmarks/soft_targets.py.
DEFAULT_ENTRIES = {"sampled": 40, "top_p": 16}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="a finished shard set: a folder or an address (gs://, s3://)")
    parser.add_argument("folder", type=Path, help="where the set with soft targets goes")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", type=Path, help="folder of the tokenizer that SOURCE was made with")
    parser.add_argument("--bos", action="store_true", help="the teacher reads its BOS before a text of the student's")
    parser.add_argument("--top-k", type=int, help="entries of a token at most (default: 40 sampled, 16 of top_p)")
    parser.add_argument(
        "--kind",
        choices=SOFT_TARGET_KINDS,
        default="sampled",
        help="top_p: the likeliest entries and a rest bucket; sampled: at most K entries drawn so that the forward KL "
        "has the whole distribution's gradient on average (default: %(default)s)",
    )
    parser.add_argument(
        "--top-p", type=float, default=0.9, help="of the mass at most, where not sampled (default: %(default)s)"
    )
    parser.add_argument("--row-length", type=int, default=2048, help="context in tokens (default: %(default)s)")
    parser.add_argument("--batch-tokens", type=int, default=8192, help="tokens of a pass (default: %(default)s)")
    parser.add_argument("--compute-dtype", choices=COMPUTE_DTYPES, default="float32", help="default: %(default)s")
    parser.add_argument("--data", type=int, default=1, help="devices that share the rows (default: %(default)s)")
    parser.add_argument("--fsdp", type=int, default=1, help="devices that share the weights too (default: %(default)s)")
    parser.add_argument("--part", default="0/1", help="INDEX/COUNT of this process, from 0 (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        return score(options)
    except UserError as error:
        print(f"score: {error}", file=sys.stderr)
        return 2


def score(options: argparse.Namespace) -> int:
    index, _, count = options.part.partition("/")
    if not (index.isdigit() and count.isdigit()):
        raise UserError(f"--part={options.part} is no INDEX/COUNT: write 0/4 for the first of four")
    source, teacher = ShardSet(options.source), import_model(options.teacher)
    scoring = ScoringConfig(
        options.top_k if options.top_k is not None else DEFAULT_ENTRIES[options.kind],
        options.top_p,
        min(options.row_length, teacher.config.max_context),
        COMPUTE_DTYPES[options.compute_dtype],
        options.batch_tokens,
        make_mesh(MeshShape(options.data, options.fsdp)) if options.data * options.fsdp > 1 else None,
        options.kind,
    )
    done = 0

    def show(tokens: int) -> None:
        nonlocal done
        done += tokens
        print(f"\r{done:,} of {source.lengths.sum():,} tokens", end="", file=sys.stderr, flush=True)

    told = {"teacher": options.teacher.name, "part": (int(index), int(count)), "progress": show}
    arguments = source, options.folder, teacher.config, teacher.params, teacher.tokenizer
    if options.student is None:
        scored = score_shards(*arguments, scoring, **told)
    else:
        scored = score_shards_across(*arguments, load_tokenizer(options.student), scoring, bos=options.bos, **told)
    print(file=sys.stderr)
    if scored is None:
        print(f"part {options.part} of {options.folder} is done; the set is closed by the last part to finish")
        return 0
    positions, tokens = scored.manifest["soft_target_positions"], int(scored.lengths.sum())
    size = sum(entry["bytes"] for entry in scored.manifest["shards"])
    plain = sum(entry["bytes"] for entry in source.manifest["shards"])
    print(
        f"{options.folder}: {tokens:,} tokens, {positions:,} with soft targets, "
        f"{(size - plain) / max(positions, 1):.1f} bytes for each of these"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
