"""Names of hardware mean what clouds and compilers mean by them."""

import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.planning.cuda_target import target_config
from demiurgic_jax.planning.hardware import find_hardware, larger
from demiurgic_jax.planning.prices import prices_of
from demiurgic_jax.sharding.chips import CHIPS


@pytest.mark.parametrize(
    ("name", "chips", "topology"),
    [
        ("v5e-64", 64, "v5e:8x8"),
        ("v6e-64", 64, "v6e:8x8"),
        ("v5p-32", 16, "v5p:2x2x4"),
        ("v5p-128", 64, "v5p:4x4x4"),
        ("v4-8", 4, "v4:2x2x1"),
        ("8xA100-80GB", 8, "1x1x8"),
        ("16xA100-80GB", 16, "1x2x8"),
        ("64xH100", 64, "1x8x8"),
        ("1xH200", 1, "1x1x1"),
        ("2xv5p-32", 32, "v5p:2x2x4"),
    ],
)
def test_a_name_is_so_many_chips_in_that_arrangement(name, chips, topology):
    hardware = find_hardware(name)
    assert (hardware.num_chips, hardware.topology) == (chips, topology)


def test_an_unknown_chip_lists_the_known_ones():
    with pytest.raises(UserError, match=r"'v9x-64' is unknown: .*known are v4-N, v5p-N, v5e-N, v6e-N, NxA100-80GB"):
        find_hardware("v9x-64")
    with pytest.raises(UserError, match="did you mean 8xA100-80GB"):
        find_hardware("8xA100-40GB")


def test_a_slice_or_node_that_nobody_rents_is_refused():
    with pytest.raises(UserError, match="a slice 'v5p-33' does not exist: choose one of v5p-8, v5p-16"):
        find_hardware("v5p-33")
    with pytest.raises(UserError, match="multiple of 8"):
        find_hardware("12xH100")


def test_larger_hardware_is_the_next_size_of_the_same_chip():
    assert larger(find_hardware("v5p-32")).name == "v5p-64"
    assert larger(find_hardware("8xH100")).name == "16xH100"
    assert larger(find_hardware("v5e-256")) is None
    assert larger(find_hardware("2xv5e-64")).name == "2xv5e-128"


@pytest.mark.parametrize("chip", CHIPS.values(), ids=lambda chip: chip.name)
def test_every_chip_has_a_dated_price_and_every_gpu_a_target(chip):
    assert prices_of(chip.name)[0].terms == "on-demand"
    assert all(len(price.as_of) == 7 and price.source for price in prices_of(chip.name))
    if chip.platform == "cuda":
        assert f"device_memory_size: {int(chip.hbm_bytes)}" in target_config(chip)
    else:
        assert chip.clock_hz > 0
