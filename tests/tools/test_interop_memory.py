"""A model comes in and goes out in little more memory than one copy of it."""

from dataclasses import replace

import pytest

from demiurgic_jax.model.config import named_config
from tools.benchmarks.interop import run, write_random_model

# Less, and what TensorStore writes from (a few hundred megabytes) would be more than a part in seven.
CONFIG = replace(named_config("7b"), num_layers=4)
SIZE = 2 * CONFIG.num_parameters
TINY = replace(named_config("tiny"), vocab_size=512)


@pytest.mark.full_size
def test_peak_memory_is_at_most_1_15_of_a_bfloat16_copy(tmp_path):
    """Above what the same programs take for a model of no size: Python, JAX and its compiler."""

    def peaks(config, folder):
        folder.mkdir()
        write_random_model(config, folder / "theirs")
        taken = run("import", ["tools.import_model", str(folder / "theirs"), str(folder / "ours")], folder, SIZE)
        out = ["tools.export_model", str(folder / "ours"), str(folder / "out")]
        return [taken["peak_GB"], run("export", out, folder, SIZE)["peak_GB"]]

    floor, large = peaks(TINY, tmp_path / "tiny"), peaks(CONFIG, tmp_path / "large")
    for least, taken in zip(floor, large, strict=True):
        assert taken - least <= 1.15 * SIZE / 1e9
