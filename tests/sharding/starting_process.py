"""Starts as one process of several and says what it found. Argument: seconds to wait for the others."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from demiurgic_jax.errors import UserError
from demiurgic_jax.sharding.placement import put_array
from demiurgic_jax.sharding.processes import start_processes

try:
    index = start_processes("a command", float(sys.argv[1]))
except UserError as error:
    sys.exit(str(error))
spread = NamedSharding(Mesh(np.array(jax.devices()), ("all",)), PartitionSpec("all"))
ones = put_array(np.ones(jax.device_count()), spread)
total = jax.jit(jnp.sum, out_shardings=NamedSharding(spread.mesh, PartitionSpec()))(ones)
print(f"{index} of {jax.process_count()}: {float(total):g} devices", file=sys.stderr)
