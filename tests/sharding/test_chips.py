"""A chip is found by the name that JAX gives it."""

import pytest

from demiurgic_jax.sharding.chips import CHIPS, chip_of


@pytest.mark.parametrize(
    ("device_kind", "name"),
    [("TPU v4", "v4"), ("TPU v5 lite", "v5e"), ("TPU v5p", "v5p"), ("NVIDIA H100 80GB HBM3", "H100")],
)
def test_jax_and_the_table_mean_the_same_chip(device_kind, name):
    chip = chip_of(device_kind)
    assert chip is not None
    assert chip.name == name


def test_a_chip_that_is_not_in_the_table_has_no_made_up_peak():
    assert chip_of("cpu") is None


def test_no_two_chips_share_a_name():
    kinds = [kind for chip in CHIPS.values() for kind in chip.device_kinds]
    assert len(kinds) == len(set(kinds)) >= len(CHIPS)
