"""Takes a checkpoint out to where others can use it: a Hugging Face folder, or a GGUF file.

    python -m tools.export_model runs/quickstart OUT                             for transformers and vLLM
    python -m tools.export_model runs/quickstart OUT.gguf --format=gguf          for llama.cpp and Ollama, in float16
    python -m tools.export_model runs/quickstart OUT.gguf --format=gguf --dtype=q8_0
    python -m tools.export_model runs/7b/train/checkpoints/4000 OUT --dtype=bfloat16 --licence=apache-2.0

CHECKPOINT is a run's folder (its newest checkpoint), a folder of checkpoints, or one step of them. A Hugging Face
folder has the weights in shards of 5 GB, config.json, generation_config.json, the tokenizer with its chat template, and
a model card with what the run's folder knows: the data and its licences, and the scores. A GGUF file has the weights,
the vocabulary, the chat template and the fill-in-the-middle markers.

Parameters are read one at a time, so memory holds the largest of them, not the model. What is made is whole or absent.

    vllm serve OUT
    llama-server -m OUT.gguf
    ollama create NAME -f <(echo FROM OUT.gguf)
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demiurgic_jax.errors import UserError
from tools.byte_progress import byte_progress

if TYPE_CHECKING:
    from demiurgic_jax.checkpoints.checkpoint import StoredModel
    from demiurgic_jax.interop.model_card import CardFacts

USER_ERROR = 2
# --dtype by --format; the first is what auto means.
DTYPES: Mapping[str, Sequence[str]] = {
    "hf": ("as stored", "float32", "float16", "bfloat16"),
    "gguf": ("float16", "float32", "bfloat16", "q8_0"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 or 2 (the user's mistake)."""
    options = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    try:
        run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    return 0


def run(options: argparse.Namespace) -> None:
    known = DTYPES[options.format]
    if options.dtype not in ("auto", *known):
        raise UserError(
            f"--format={options.format} has no --dtype={options.dtype}: choose auto, {', '.join(known[1:])}"
        )
    # Imported here: JAX comes along, which --help and a wrong flag should not wait for.
    import jax.numpy as jnp

    from demiurgic_jax.checkpoints.checkpoint import open_stored
    from demiurgic_jax.interop.gguf_export import export_gguf
    from demiurgic_jax.interop.huggingface_export import export_huggingface
    from demiurgic_jax.interop.output import require_absent
    from tools.views.checkpoint import checkpoint_folder

    require_absent(options.out)
    began = time.monotonic()
    folder, step = checkpoint_folder(options.checkpoint)
    source = open_stored(folder if step is None else folder / str(step))
    facts = gather_facts(source, folder, options)
    with byte_progress(f"writing {options.out.name}") as progress:
        if options.format == "gguf":
            kind = known[0] if options.dtype == "auto" else options.dtype
            export_gguf(source, options.out, facts, kind=kind, progress=progress)
        else:
            dtype = None if options.dtype == "auto" else jnp.dtype(options.dtype)
            export_huggingface(source, options.out, facts, dtype=dtype, progress=progress)
    files = [options.out] if options.out.is_file() else sorted(options.out.iterdir())
    size = sum(file.stat().st_size for file in files)
    print(
        f"{options.out}: step {source.step} of {folder}, {source.config.num_parameters / 1e6:,.1f} M parameters, "
        f"{size / 1e9:,.3f} GB; {time.monotonic() - began:,.1f} s"
    )
    if facts.licence is None:
        print("no licence is known for it: name one with --licence before you pass it on", file=sys.stderr)


def gather_facts(source: "StoredModel", checkpoints: Path, options: argparse.Namespace) -> "CardFacts":
    """What the checkpoint's card and the report of the run around it know."""
    from demiurgic_jax.interop.model_card import CardFacts

    provenance = source.card.provenance
    run_folder = checkpoints.parent.parent if checkpoints.parent.name == "train" else None
    report: dict[str, Any] = {}
    if run_folder is not None and (run_folder / "report.json").is_file():
        report = json.loads((run_folder / "report.json").read_text())
    shards = report.get("shards", {})
    teacher = report.get("teacher", {})
    heldout = dict(source.card.heldout)
    everyday = report.get("everyday", {})
    names = ("experiment", "teacher", "init", "imported_from", "base_model")
    return CardFacts(
        name=options.name or (run_folder.name if run_folder else checkpoints.name),
        licence=options.licence or provenance.get("licence"),
        base_model=provenance.get("base_model"),
        training={
            **{name.replace("_", " "): str(provenance[name]) for name in names if provenance.get(name)},
            "step": f"{source.step:,}",
            **{name: f"{value:,}" for name, value in report.get("student", {}).items() if name == "tokens"},
        },
        data={
            **{f"{split} documents": f"{count:,}" for split, count in shards.get("documents", {}).items()},
            **{f"{split} tokens": f"{count:,}" for split, count in shards.get("tokens", {}).items()},
            **{f"{task} documents": f"{count:,}" for task, count in shards.get("tasks", {}).get("train", {}).items()},
            **({"teacher's answers kept": f"{teacher['kept']:,} of {teacher['asked']:,}"} if teacher else {}),
        },
        licences=shards.get("licences", {}).get("train", {}),
        scores={
            **{name: value for name, value in heldout.items() if isinstance(value, int | float)},
            **(
                {"everyday prompts begun as a program": everyday["student_begins_program"] / everyday["prompts"]}
                if everyday
                else {}
            ),
        },
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.export_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a run, its checkpoints, or one step of them"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder or .gguf file to make")
    parser.add_argument("--format", choices=tuple(DTYPES), default="hf", help="hf: a Hugging Face folder (the default)")
    parser.add_argument(
        "--dtype",
        default="auto",
        metavar="DTYPE",
        help="float32, float16, bfloat16; for gguf also q8_0 (default: auto, as stored; float16 for gguf)",
    )
    parser.add_argument("--name", help="what the model is called (default: the run's folder)")
    parser.add_argument("--licence", metavar="SPDX", help="e.g. apache-2.0 (default: that of the model it began as)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
