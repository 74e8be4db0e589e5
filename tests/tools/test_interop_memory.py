"""A model comes in and goes out in little more memory than one copy of it."""

from dataclasses import replace

import pytest

from demiurgic_jax.model.config import named_config
from tools.benchmarks.interop import EMPTY, STEPS, run, write_random_model

# Less, and what TensorStore writes from (a few hundred megabytes) would be more than a part in seven.
CONFIG = replace(named_config("7b"), num_layers=4)


@pytest.mark.full_size
def test_peak_memory_is_at_most_1_15_of_a_bfloat16_copy(tmp_path):
    """Above what the same programs take for a model of no size: Python, JAX and its compiler."""
    for name, config in (("empty", EMPTY), ("large", CONFIG)):
        write_random_model(config, tmp_path / name / "theirs")
    for what in ("import", "export to Hugging Face", "export to GGUF"):
        least, taken = (run(STEPS[what], tmp_path / name).peak_GB for name in ("empty", "large"))
        assert taken - least <= 1.15 * 2 * CONFIG.num_parameters / 1e9, what
