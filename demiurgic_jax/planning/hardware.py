"""How many of which chips a name like `v5p-32` or `16xA100-80GB` means."""

import difflib
import math
import re
from dataclasses import dataclass

from demiurgic_jax.errors import UserError
from demiurgic_jax.sharding.chips import CHIPS, Chip

GPUS_PER_NODE = 8

# Names of v4 and v5p slices count cores, two a chip; those of v5e and v6e count chips.
_CORES_PER_CHIP = {"v4": 2, "v5p": 2, "v5e": 1, "v6e": 1}
_TORUS_2D = {4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_TORUS_3D = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8", 512: "8x8x8"}
_TORUS_3D |= {1024: "8x8x16", 2048: "8x16x16"}
_TOPOLOGIES = {"v4": _TORUS_3D, "v5p": _TORUS_3D, "v5e": _TORUS_2D, "v6e": _TORUS_2D}


@dataclass(frozen=True)
class Hardware:
    """`num_chips` of one kind, of all slices together. `topology` is what the compiler calls their arrangement: of one
    TPU slice "v5p:2x2x4", of GPUs "slices x nodes x GPUs of a node". TPU slices are joined by the data-centre network
    (DCN) only."""

    name: str
    chip: Chip
    num_chips: int
    topology: str
    num_slices: int = 1

    @property
    def send_bandwidth(self) -> float:
        """Bytes/s that one chip sends round a ring of all chips, of one slice where there are several.

        A ring through many nodes leaves each of them once, and the GPUs of a node share its ways out.
        """
        if self.chip.platform == "cuda" and self.num_chips > GPUS_PER_NODE:
            return min(self.chip.link_bandwidth, self.chip.node_bandwidth)
        return self.chip.link_bandwidth


def find_hardware(name: str) -> Hardware:
    """The hardware called `name`; UserError lists what is known."""
    if match := re.fullmatch(r"(?:(\d+)x)?(v\d\w?)-(\d+)", name):
        slices, kind, size = int(match[1] or 1), match[2], int(match[3])
        if kind in _TOPOLOGIES:
            chips, odd = divmod(size, _CORES_PER_CHIP[kind])
            if odd or chips not in _TOPOLOGIES[kind] or slices < 1:
                raise UserError(f"a slice {name!r} does not exist: choose one of {', '.join(slice_names(kind))}")
            return Hardware(name, CHIPS[kind], slices * chips, f"{kind}:{_TOPOLOGIES[kind][chips]}", slices)
    if match := re.fullmatch(r"(\d+)x([A-Za-z][\w-]*)", name):
        count, kind = int(match[1]), match[2]
        if kind in CHIPS and CHIPS[kind].platform == "cuda":
            if count < 1 or (count > GPUS_PER_NODE and count % GPUS_PER_NODE):
                raise UserError(
                    f"{name!r} fills no whole nodes: give 1 to {GPUS_PER_NODE} GPUs or a multiple of {GPUS_PER_NODE}"
                )
            nodes = math.ceil(count / GPUS_PER_NODE)
            return Hardware(name, CHIPS[kind], count, f"1x{nodes}x{count // nodes}")
    names = [*(slice_name for kind in _TOPOLOGIES for slice_name in slice_names(kind)), *_gpu_examples()]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}? " if near else ""
    known = ", ".join(f"{kind}-N" for kind in _TOPOLOGIES) + ", " + ", ".join(f"Nx{kind}" for kind in _gpu_kinds())
    examples = "v5e-64, v5p-32, 2xv5p-128 (two slices), 8xA100-80GB"
    raise UserError(f"hardware {name!r} is unknown: {hint}known are {known}, e.g. {examples}")


def slice_names(kind: str) -> list[str]:
    """Every slice of a TPU generation, smallest first."""
    return [f"{kind}-{chips * _CORES_PER_CHIP[kind]}" for chips in _TOPOLOGIES[kind]]


def larger(hardware: Hardware) -> Hardware | None:
    """The next larger slice, or twice the GPUs; None past the largest."""
    kind = hardware.chip.name
    if hardware.chip.platform == "cuda":
        return find_hardware(f"{2 * hardware.num_chips}x{kind}") if hardware.num_chips < 1024 else None
    sizes = [chips for chips in _TOPOLOGIES[kind] if chips > hardware.num_chips // hardware.num_slices]
    if not sizes:
        return None
    prefix = f"{hardware.num_slices}x" if hardware.num_slices > 1 else ""
    return find_hardware(f"{prefix}{kind}-{min(sizes) * _CORES_PER_CHIP[kind]}")


def _gpu_kinds() -> list[str]:
    return [name for name, chip in CHIPS.items() if chip.platform == "cuda"]


def _gpu_examples() -> list[str]:
    return [f"{count}x{kind}" for kind in _gpu_kinds() for count in (8, 16, 64)]
