"""Chips, and what their makers say of them.

Figures are a chip's dense peaks as its maker prints them. Sources: Cloud TPU documentation, pages "TPU v4", "v5e",
"v5p" and "v6e"; NVIDIA's A100, H100 and H200 data sheets (SXM); bandwidth of a TPU's links, of its way to the host
and to other slices, and its core clock: "How to Scale Your Model" (jax-ml.github.io/scaling-book), table of TPU specs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One accelerator as JAX sees it (a TPU v4 or v5p chip with its two cores is one device).

    `peak_flops`: dense bfloat16 FLOP/s. `usable_bytes`: what a program may take of `hbm_bytes`. `hbm_bandwidth`,
    `link_bandwidth`: bytes/s; the latter is what one chip sends over all its links to its neighbours.
    `host_bandwidth`: bytes/s over PCIe, each way. `dcn_bandwidth`: a TPU's part of what its host sends to other slices.
    `node_bandwidth`: bytes/s that a node of 8 GPUs sends to other nodes; 0 for a TPU slice, which has no nodes in
    this sense. `clock_hz` turns a TPU compiler's cycles into seconds. `device_kinds`: what JAX calls it.
    """

    name: str
    platform: Literal["tpu", "cuda"]
    peak_flops: float
    hbm_bytes: float
    usable_bytes: float
    hbm_bandwidth: float
    link_bandwidth: float
    host_bandwidth: float
    node_bandwidth: float = 0.0
    dcn_bandwidth: float = 0.0
    clock_hz: float = 0.0
    device_kinds: tuple[str, ...] = ()


def _tpu(
    name: str,
    tflops: float,
    gib: float,
    usable_gib: float,
    hbm_gbs: float,
    link_gbs: float,
    host_gbs: float,
    dcn_gbs: float,
    ghz: float,
    *kinds: str,
) -> Chip:
    bandwidths = hbm_gbs * 1e9, link_gbs * 1e9, host_gbs * 1e9, 0, dcn_gbs * 1e9
    return Chip(name, "tpu", tflops * 1e12, gib * GIB, usable_gib * GIB, *bandwidths, ghz * 1e9, kinds)


def _gpu(
    name: str,
    tflops: float,
    memory: float,
    hbm_gbs: float,
    link_gbs: float,
    host_gbs: float,
    node_gbs: float,
    *kinds: str,
) -> Chip:
    bandwidths = hbm_gbs * 1e9, link_gbs * 1e9, host_gbs * 1e9, node_gbs * 1e9
    # The CUDA context, cuDNN and NCCL take about 4 GB; JAX has to be told to take the rest
    # (XLA_PYTHON_CLIENT_MEM_FRACTION, 0.75 by default).
    return Chip(name, "cuda", tflops * 1e12, memory, memory - 4e9, *bandwidths, device_kinds=kinds)


# A TPU's usable memory is the limit that libtpu 0.0.46 compiles against; a GPU's memory is what its driver reports.
# Nodes of A100s are joined by 1,600 Gb/s (8 × 200), of H100s and H200s by 3,200 Gb/s (8 × 400).
CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        _tpu("v4", 275, 32, 31.25, 1228, 270, 16, 6.25, 1.05, "TPU v4"),
        _tpu("v5e", 197, 16, 15.75, 819, 180, 16, 3.125, 1.5, "TPU v5 lite", "TPU v5e"),
        _tpu("v5p", 459, 95, 95.74, 2765, 540, 16, 6.25, 1.75, "TPU v5", "TPU v5p"),
        _tpu("v6e", 918, 32, 31.25, 1640, 360, 32, 12.5, 1.75, "TPU v6 lite", "TPU v6e"),
        _gpu("A100-80GB", 312, 85_100_068_864, 2039, 300, 32, 200, "NVIDIA A100-SXM4-80GB"),
        _gpu("H100", 989, 84_929_347_584, 3352, 450, 64, 400, "NVIDIA H100 80GB HBM3"),
        _gpu("H200", 989, 151_397_597_184, 4800, 450, 64, 400, "NVIDIA H200"),
    )
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip that JAX calls `device_kind` (`jax.Device.device_kind`); None for one that is not in the table."""
    return next((chip for chip in CHIPS.values() if device_kind in chip.device_kinds), None)
