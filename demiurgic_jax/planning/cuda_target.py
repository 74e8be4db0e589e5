"""What XLA's CUDA compiler has to know of a GPU that is not here.

XLA reads it as the text of a protocol buffer (`GpuTargetConfigProto`, xla/stream_executor/device_description.proto).
Figures: NVIDIA's architecture white papers of A100 and H100 (multiprocessors, cores, caches, clock) and the limits of
compute capabilities 8.0 and 9.0 in the CUDA C++ Programming Guide.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from demiurgic_jax.sharding.chips import Chip


@dataclass(frozen=True)
class _Architecture:
    capability: str
    core_count: int
    fpus_per_core: int
    shared_memory_per_core: int
    shared_memory_per_block_optin: int
    l2_cache_size: int
    clock_rate_ghz: float
    nvlinks: int
    description: str


_HOPPER = ("major: 9 feature_extension: ACCELERATED_FEATURES", 132, 128, 233_472, 232_448, 52_428_800, 1.98, 18)
_ARCHITECTURES: Mapping[str, _Architecture] = {
    "A100-80GB": _Architecture("major: 8", 108, 64, 167_936, 166_912, 41_943_040, 1.41, 12, "NVIDIA A100-SXM4-80GB"),
    "H100": _Architecture(*_HOPPER, "NVIDIA H100 80GB HBM3"),
    "H200": _Architecture(*_HOPPER, "NVIDIA H200"),
}
# The same for every GPU here.
_LIMITS = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "threads_per_core_limit": 2048,
    "shared_memory_per_block": 49_152,
    "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 65_535,
    "block_dim_limit_z": 65_535,
    "thread_dim_limit_x": 1024,
    "thread_dim_limit_y": 1024,
    "thread_dim_limit_z": 64,
    "registers_per_core_limit": 65_536,
    "registers_per_block_limit": 65_536,
}
_CUDNN = "major: 9 minor: 10 patch: 0"
_CUDA = "major: 12 minor: 9 patch: 0"


def target_config(chip: Chip) -> str:
    """The text that `jax.experimental.topologies` takes as `target_config`."""
    gpu = _ARCHITECTURES[chip.name]
    fields = _LIMITS | {
        "core_count": gpu.core_count,
        "fpus_per_core": gpu.fpus_per_core,
        "shared_memory_per_core": gpu.shared_memory_per_core,
        "shared_memory_per_block_optin": gpu.shared_memory_per_block_optin,
        "l2_cache_size": gpu.l2_cache_size,
        "clock_rate_ghz": gpu.clock_rate_ghz,
        "memory_bandwidth": int(chip.hbm_bandwidth),
        "device_memory_size": int(chip.hbm_bytes),
    }
    lines = [f"{name}: {value}" for name, value in fields.items()]
    lines += [
        f"cuda_compute_capability {{ {gpu.capability} }}",
        f"device_interconnect_info {{ active_links: {gpu.nvlinks} }}",
    ]
    return "\n".join(
        [
            "gpu_device_info {",
            *lines,
            "}",
            'platform_name: "CUDA"',
            f"dnn_version_info {{ {_CUDNN} }}",
            f"runtime_version {{ {_CUDA} }}",
            f'device_description_str: "{gpu.description}"',
        ]
    )
