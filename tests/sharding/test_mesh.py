"""A mesh covers the devices exactly, or says what does not fit."""

import jax
import pytest
from slice_device import two_slices

from demiurgic_jax.errors import UserError
from demiurgic_jax.sharding.mesh import MeshShape, device_grid, make_mesh


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (MeshShape(), (1, 8, 1, 1)),
        (MeshShape(data=8, fsdp=1), (8, 1, 1, 1)),
        (MeshShape(data=-1, fsdp=2), (4, 2, 1, 1)),
        (MeshShape(data=2, fsdp=2, tensor=2), (2, 2, 1, 2)),
        (MeshShape(fsdp=2, context=2, tensor=-1), (1, 2, 2, 2)),
    ],
)
def test_one_free_axis_takes_what_the_others_leave(shape, sizes):
    mesh = make_mesh(shape)
    assert mesh.axis_names == ("data", "fsdp", "context", "tensor")
    assert mesh.devices.shape == sizes
    assert {device.id for device in mesh.devices.flat} == {device.id for device in jax.devices()}


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (MeshShape(data=3), "data=3 × fsdp=-1 × context=1 × tensor=1 does not cover the 8 devices"),
        (MeshShape(data=2, fsdp=2), "set train.mesh.fsdp=4, or take 4 devices"),
        (MeshShape(data=16, fsdp=1), "set train.mesh.data=8, or take 16 devices"),
        (MeshShape(data=3, fsdp=3, tensor=3), "make the product 8"),
        (MeshShape(data=-1, fsdp=-1), "at most one axis may be -1"),
        (MeshShape(data=0), "sizes are at least 1"),
        (MeshShape(tensor=-2), "sizes are at least 1"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused_with_its_sizes(shape, said):
    with pytest.raises(UserError) as refusal:
        make_mesh(shape)
    assert said in str(refusal.value)


@pytest.mark.parametrize("shape", [MeshShape(data=2), MeshShape(data=4, fsdp=2), MeshShape(data=2, fsdp=1, context=-1)])
def test_only_data_reaches_over_slices(shape):
    grid = device_grid(shape, two_slices())
    assert len({device.id for device in grid.flat}) == 8
    of_slice = [{device.slice_index for device in rows.flat} for rows in grid]
    assert all(len(slices) == 1 for slices in of_slice)
    half = len(of_slice) // 2
    assert set.union(*of_slice[:half]) != set.union(*of_slice[half:])


@pytest.mark.parametrize("shape", [MeshShape(), MeshShape(data=1, fsdp=2, tensor=4)])
def test_an_axis_that_would_leave_its_slice_is_refused_with_the_mend(shape):
    with pytest.raises(UserError, match=r"8 devices are 2 slices, and data=1.*set train\.mesh\.data=2"):
        device_grid(shape, two_slices())


def test_fewer_devices_may_be_given():
    assert make_mesh(MeshShape(fsdp=2), jax.devices()[:2]).devices.shape == (1, 2, 1, 1)
