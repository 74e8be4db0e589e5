"""How a student of a named size lies on the hardware that one has: one layout for each size and kind of chip.

A layout says what the backward pass finds computed (`remat`) and how many tokens a chip holds at once. Mesh, rows and
gradient accumulation follow from it, so that a step has the same tokens on every hardware.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from demiurgic_jax.errors import UserError
from demiurgic_jax.planning.hardware import Hardware, find_hardware

ROW = 4096
# Parameters are cut into at most as many parts as the vocabulary divides into; past that, `data` holds copies.
MOST_SHARDS = 256

# (remat, rows of 4,096 tokens that a chip holds at once), sized for the hardware that a config's docstring names.
# Where there is room the outputs of matmuls are kept, which saves a fifth of a step's FLOPs; else nothing is, and on
# TPUs with little memory the layers' inputs wait in the host's.
LAYOUTS: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "1b": {
        "A100-80GB": ("dots", 8),
        "H100": ("dots", 8),
        "H200": ("dots", 16),
        "v5e": ("dots", 2),
        "v5p": ("dots", 8),
        "v6e": ("dots", 4),
    },
    "7b": {
        "A100-80GB": ("dots", 4),
        "H100": ("dots", 4),
        "H200": ("dots", 8),
        "v5e": ("offload", 4),
        "v5p": ("dots", 4),
        "v6e": ("offload", 8),
    },
    "13b": {
        "A100-80GB": ("dots", 2),
        "H100": ("dots", 2),
        "H200": ("dots", 4),
        "v5e": ("offload", 2),
        "v5p": ("dots", 2),
        "v6e": ("offload", 4),
    },
    "34b": {
        "A100-80GB": ("full", 4),
        "H100": ("full", 4),
        "H200": ("full", 8),
        "v5e": ("offload", 1),
        "v5p": ("dots", 2),
        "v6e": ("offload", 4),
    },
    "70b": {
        "A100-80GB": ("full", 4),
        "H100": ("full", 4),
        "H200": ("full", 8),
        "v5e": ("offload", 1),
        "v5p": ("dots", 1),
        "v6e": ("offload", 2),
    },
}


@dataclass(frozen=True)
class Layout:
    """Fields of config.train: rows of a whole step, the parts it is taken in, what is recomputed, devices an axis."""

    batch_size: int
    grad_accum_steps: int
    remat: str
    mesh: Mapping[str, int]


def layout(size: str, hardware_name: str, context: int, step_tokens: int) -> Layout:
    """About `step_tokens` a step in rows of `context` tokens, on the hardware that is called so.

    Rows that are longer than what a chip holds, and chips that are more than the rows, go to the axis `context`.
    UserError where the hardware is unknown, or no layout for it and `size`.
    """
    hardware = find_hardware(hardware_name)
    remat, rows = _known(size, hardware)
    if context < ROW or context & (context - 1):
        raise UserError(f"config.context={context} is none of {ROW}, {2 * ROW}, {4 * ROW}, … tokens")
    held = rows * ROW
    sharers = max(context // held, _power_of_two(hardware.num_chips * context // step_tokens), 1)
    groups = hardware.num_chips // sharers
    if groups * sharers != hardware.num_chips:
        raise UserError(
            f"config.context={context} shares a row between {sharers} chips, of which {hardware_name} has no whole "
            "groups: take more chips, or a shorter context"
        )
    rows_at_once = max(1, min(held // context, step_tokens // context // groups))
    steps = max(1, round(step_tokens / (context * groups * rows_at_once)))
    # The largest power of two that divides, because that divides every dimension of the named sizes.
    inside = groups // hardware.num_slices
    fsdp = min(inside & -inside, MOST_SHARDS)
    return Layout(
        batch_size=groups * rows_at_once * steps,
        grad_accum_steps=steps,
        remat=remat,
        mesh={"data": groups // fsdp, "fsdp": fsdp, "context": sharers, "tensor": 1},
    )


def _known(size: str, hardware: Hardware) -> tuple[str, int]:
    chip, chips = hardware.chip.name, LAYOUTS[size]
    if chip not in chips:
        raise UserError(f"no layout is known for {size} on {chip}: name hardware of {', '.join(chips)}")
    return chips[chip]


def _power_of_two(at_least: int) -> int:
    return 2 ** math.ceil(math.log2(max(at_least, 1)))
