"""Will it fit, how fast, for how much: a config's own training step, compiled for chips that you do not have yet.

    python -m tools.plan --config=7b_distill --hardware=v5p-32
    python -m tools.plan --config=NAME --compare=v5e-64,v5p-32,v6e-64 --tokens=20B     one table, and which to take
    python -m tools.plan --config=NAME --hardware=16xA100-80GB --plot=memory.png       memory by part as a picture
    python -m tools.plan --config=NAME --hardware=8xH200 --json                        the same for programs
    python -m tools.plan --claims                                                      what this project set out to do

Hardware: v4-N and v5p-N (N counts cores, two a chip), v5e-N and v6e-N (N counts chips), NxA100-80GB, NxH100, NxH200
(8 a node). A TPU's compiler is the package libtpu (`pip install 'jax[tpu]'`), a GPU's comes with `pip install
'jax[cuda12]'`; neither needs the chip. Where it is missing an analytic model answers, and says so.

Memory, FLOPs and bytes on the wire are the compiled program's own. Seconds, MFU, days and dollars are an ESTIMATE.
A config that does not fit is said with by how much, and with the cheapest change that was tried and does.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from demiurgic_jax.errors import UserError
from experiments.configuration import config_names, load_config

if TYPE_CHECKING:
    from demiurgic_jax.model.config import ModelConfig
    from demiurgic_jax.planning.budget import Teacher
    from demiurgic_jax.training.config import TrainConfig

USER_ERROR = 2
# A prompt is its instructions and a piece of code: tokens of the first, and of a line of the second.
INSTRUCTION_TOKENS, LINE_TOKENS = 200, 12


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 1 (nothing fits) or 2 (the user's mistake)."""
    try:
        arguments, overrides = parse_arguments(sys.argv[1:] if argv is None else argv)
        return run(arguments, overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR


def run(arguments: argparse.Namespace, overrides: Sequence[tuple[str, str]]) -> int:
    # Imported here: JAX comes along, which --help and a wrong flag should not wait for.
    from demiurgic_jax.planning.ahead_of_time import prepare_environment
    from demiurgic_jax.planning.alternatives import cheapest_fit, differences
    from demiurgic_jax.planning.claims import claims_report
    from demiurgic_jax.planning.estimate import plan_step
    from demiurgic_jax.planning.hardware import find_hardware
    from demiurgic_jax.planning.plot import plot_memory
    from demiurgic_jax.planning.report import as_json, compare, describe

    prepare_environment()
    if arguments.claims:
        print(claims_report())
        return 0
    config = load_config(arguments.config, overrides)
    model = planned_model(config)
    train = planned_phase(config, model, arguments.phase)
    tokens = arguments.tokens or train.steps * train.batch_size * train.context
    teacher, in_the_step = planned_teacher(config), online_teacher_model(config, train)
    pairs = []
    for name in arguments.compare or [arguments.hardware or config.get("hardware")]:
        if not name:
            raise UserError("no hardware is named: give --hardware, e.g. --hardware=v5p-32")
        hardware = find_hardware(name)
        if "hardware" in config:
            # Such a config lays itself out anew for each.
            laid = load_config(arguments.config, [*overrides, ("hardware", name)])
            train = planned_phase(laid, model, arguments.phase)
        say(f"planning for {name}")
        asked = plan_step(train, model, hardware, arguments.method, in_the_step)
        fit = asked if asked.fits else cheapest_fit(asked, same_hardware=bool(arguments.compare), say=say)
        pairs.append((asked, fit or asked))
    if arguments.plot:
        plot_memory([fit for _, fit in pairs] if arguments.compare else [pairs[0][0]], arguments.plot)
    if arguments.json:
        plans = [plan for asked, fit in pairs for plan in ([asked] if fit is asked else [asked, fit])]
        print(json.dumps([as_json(arguments.config, plan, tokens, teacher) for plan in plans], indent=2))
    elif arguments.compare:
        print(compare(pairs, tokens))
    else:
        asked, fit = pairs[0]
        print(describe(arguments.config, asked, tokens, teacher))
        if not asked.fits and not fit.fits:
            print("\nNothing that was tried fits: take more chips, a shorter context or a smaller model.")
        elif not asked.fits:
            print(f"\nThe cheapest change that fits: {differences(asked, fit)}\n")
            print(describe(arguments.config, fit, tokens, None))
    return 0 if any(fit.fits for _, fit in pairs) else 1


def parse_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Flags, and the overrides among them as (field, text)."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="NAME", help="which experiment: " + ", ".join(config_names()))
    parser.add_argument("--hardware", metavar="CHIPS", help="e.g. v5p-32, 8xA100-80GB (default: the config's own)")
    parser.add_argument("--compare", metavar="A,B", type=lambda text: text.split(","), help="several, in one table")
    parser.add_argument("--tokens", type=token_count, metavar="N", help="length of the run, e.g. 20B (default: config)")
    parser.add_argument("--phase", default="", metavar="NAME", help="of config.phases (default: the first)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw memory by part (.png, .svg, .pdf)")
    parser.add_argument("--json", action="store_true", help="print figures for programs")
    parser.add_argument("--claims", action="store_true", help="test the project's own claims; needs no --config")
    parser.add_argument(
        "--method", choices=("auto", "analytic"), default="auto", help="analytic: in seconds, without a compiler"
    )
    parser.add_argument_group("overrides", "--config.FIELD=VALUE sets one field, as in python -m experiments.run")
    arguments, rest = parser.parse_known_args(argv)
    overrides = []
    for argument in rest:
        match = re.fullmatch(r"--config\.([\w.]+)=(.*)", argument, re.DOTALL)
        if match is None:
            raise UserError(f"argument {argument!r} is unknown: see python -m tools.plan --help")
        overrides.append((match[1], match[2]))
    if not arguments.claims and arguments.config is None:
        raise UserError(f"no config is named: give --config, one of {', '.join(config_names())}")
    return arguments, overrides


def token_count(text: str) -> float:
    """`20B`, `500M` or a plain number."""
    match = re.fullmatch(r"([\d.]+(?:e\d+)?)([KMBT]?)", text.replace(",", "").replace("_", ""))
    value = float(match[1]) * 1000 ** " KMBT".index(match[2] or " ") if match else 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no count of tokens: write e.g. 20B, 500M or 1000000")
    return value


def planned_model(config: ConfigDict) -> "ModelConfig":
    """The shape of the student before anything is fetched. UserError where only the teacher's file would tell."""
    from demiurgic_jax.checkpoints.checkpoint import open_card
    from demiurgic_jax.interop.imported import open_config
    from demiurgic_jax.model.config import named_config
    from experiments.teacher import EMBEDDED

    init = config.init
    if init.teacher:
        model = open_config(Path(init.teacher).expanduser())
        return replace(model, num_layers=init.layers or model.num_layers)
    if init.kind == "random":
        model = named_config(init.size)
        vocab_size = config.tokenizer.vocab_size or model.vocab_size
        return replace(model, vocab_size=math.ceil(vocab_size / 128) * 128)
    if init.kind == "checkpoint" and init.checkpoint:
        return open_card(init.checkpoint).model
    if init.kind == "teacher" and config.teacher.path == EMBEDDED:
        return replace(named_config("135m"), num_layers=init.layers)
    raise UserError(
        f"config.init.kind={init.kind} says nothing of the student's shape before the run: plan with "
        "--config.init.kind=random --config.init.size=NAME"
    )


def planned_phase(config: ConfigDict, model: "ModelConfig", name: str) -> "TrainConfig":
    """Of the phase called `name`; of the first one if it is empty. Says which others have a teacher in the step."""
    from experiments.training_phases import phase_configs

    phases = phase_configs(config, model)
    if name:
        if (train := {phase.name: phase.train for phase in phases}.get(name)) is None:
            known = ", ".join(phase.name for phase in phases if phase.name) or "it has none"
            raise UserError(f"the config has no phase called {name!r} ({known})")
        return train
    for phase in phases[1:]:
        if phase.train.teacher.online and not phases[0].train.teacher.online:
            say(f"the phase {phase.name} has the teacher in its step and needs more: plan it with --phase={phase.name}")
    return phases[0].train


def online_teacher_model(config: ConfigDict, train: "TrainConfig") -> "ModelConfig | None":
    """The shape of the teacher that runs in the step; None where none does. UserError where it has no weights."""
    from demiurgic_jax.interop.imported import open_config
    from demiurgic_jax.model.config import named_config
    from experiments.teacher import EMBEDDED

    if not train.teacher.online:
        return None
    if not config.teacher.path:
        raise UserError("config.train.teacher.online needs the teacher's weights: set config.teacher.path")
    if config.teacher.path == EMBEDDED:
        return named_config("135m")
    return open_config(Path(config.teacher.path).expanduser())


def planned_teacher(config: ConfigDict) -> "Teacher":
    """The teacher's bill as the config lets it be foreseen: every answer as long as it may be."""
    from demiurgic_jax.distillation.pricing import Price
    from demiurgic_jax.planning.budget import Teacher
    from experiments.teacher import described_teachers

    price = described_teachers(config).teachers[0].price or Price()
    return Teacher(
        examples=sum(config.teach.tasks.values()),
        input_tokens=INSTRUCTION_TOKENS + LINE_TOKENS * config.seeds.max_lines,
        output_tokens=config.teach.max_tokens,
        dollars_per_million_input=price.input_per_million,
        dollars_per_million_output=price.output_per_million,
    )


def say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
