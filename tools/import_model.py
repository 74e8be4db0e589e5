"""Turns somebody else's model into a checkpoint of ours.

    python -m tools.import_model ~/models/Qwen2.5-Coder-1.5B runs/qwen                  a Hugging Face folder
    python -m tools.import_model SmolLM2-135M-Instruct.Q4_1.gguf runs/smollm2           a GGUF file
    python -m tools.import_model ~/models/Mistral-7B-v0.1 runs/mistral --max-context=4096

Known are Llama 2 and 3, Mistral, Qwen2 and 2.5, Qwen3, SmolLM, StarCoder2 and Gemma 1, in safetensors (whole or in
shards) or GGUF (floats and every block format that the `gguf` package takes apart). What a model asks for that the
network here does not compute is refused by the name of its field.

The checkpoint is whole or absent. Then

    demiurgic complete --checkpoint runs/qwen 'def fibonacci(n):'                       tries it
    python -m experiments.run --config=NAME --config.init.kind=checkpoint --config.init.checkpoint=runs/qwen
    python -m tools.export_model runs/qwen OUT --format=gguf --dtype=q8_0               takes it out again

A run needs no checkpoint for it: --config.init.teacher=PATH starts a student from a model as it is.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from demiurgic_jax.errors import UserError
from tools.byte_progress import byte_progress

USER_ERROR = 2
DTYPES = ("auto", "float32", "bfloat16", "float16")


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
    # Imported here: JAX comes along, which --help and a wrong flag should not wait for.
    import jax.numpy as jnp

    from demiurgic_jax.interop.imported import open_unread, write_checkpoint
    from demiurgic_jax.interop.output import require_absent

    require_absent(options.out)
    began = time.monotonic()
    dtype = None if options.dtype == "auto" else jnp.dtype(options.dtype)
    with byte_progress(f"importing {options.path.name}") as progress:
        model = open_unread(options.path, dtype=dtype, max_context=options.max_context, progress=progress)
        write_checkpoint(model, options.out)
    config, special = model.config, model.tokenizer.special
    print(
        f"{options.out}: a {model.family} of {config.num_parameters / 1e6:,.1f} M parameters, "
        f"{config.num_layers} layers, context {config.max_context:,}, {model.tokenizer.vocab_size:,} pieces, "
        f"licence {model.licence or 'not known'}; "
        f"{'has' if special.fim_middle is not None else 'no'} fill-in-the-middle markers, "
        f"{'has a' if model.tokenizer.chat_template else 'no'} chat template; {time.monotonic() - began:,.1f} s"
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.import_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "path", type=Path, metavar="PATH", help="a Hugging Face folder with safetensors, or a .gguf file"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder of checkpoints to make")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="what the checkpoint holds (default: auto, each tensor as it is stored, float32 where it is quantised)",
    )
    parser.add_argument(
        "--max-context",
        type=int,
        metavar="N",
        help="import for a context of N tokens, also a model whose attention has a window of no less",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
