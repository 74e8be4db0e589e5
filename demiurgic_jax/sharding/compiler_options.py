"""What XLA is told beyond the program, by kind of chip: one table, each entry with the reason that it is there."""

from collections.abc import Mapping

from jax.sharding import Mesh

CompilerOptions = dict[str, str | int | bool]

# By the `device_kind` of a mesh's devices.
COMPILER_OPTIONS: Mapping[str, CompilerOptions] = {
    # Of 128 MB of VMEM a fusion may use 16 by default, too little to feed an MXU twice as wide as a v5's: with 96 MB
    # a 7B layer takes 15 % fewer cycles.
    "TPU v6 lite": {"xla_tpu_scoped_vmem_limit_kib": 98304},
}


def compiler_options(mesh: Mesh) -> CompilerOptions | None:
    """The options for the devices of `mesh`; None where XLA's own defaults are the best known."""
    return COMPILER_OPTIONS.get(mesh.devices.flat[0].device_kind)
