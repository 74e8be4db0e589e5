"""Devices of two TPU slices, without a TPU."""

import jax


class SliceDevice:
    """A device of one of several TPU slices, in a row of chips, standing for one of the CPU's."""

    platform, device_kind, process_index = "tpu", "TPU v5", 0

    def __init__(self, device: jax.Device, slice_index: int, place: int):
        self.device, self.slice_index, self.id = device, slice_index, device.id
        self.coords, self.core_on_chip = (place, 0, 0), 0


def two_slices() -> list[SliceDevice]:
    """The devices, alternating between two slices: their order says nothing of where they are."""
    return [SliceDevice(device, index % 2, index // 2) for index, device in enumerate(jax.devices())]
