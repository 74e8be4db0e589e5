"""What to change in a config that does not fit, cheapest first."""

import dataclasses
from collections.abc import Callable, Iterator

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.decoder import REMAT_POLICIES
from demiurgic_jax.planning.estimate import Plan, plan_step
from demiurgic_jax.planning.hardware import Hardware, larger

# How many candidates are compiled before giving up: each is a minute or more.
ATTEMPTS = 4


def differences(before: Plan, after: Plan) -> str:
    """The change in words of the config: hardware, remat, grad_accum_steps."""
    changes = []
    if before.hardware != after.hardware:
        changes.append(f"--hardware={after.hardware.name}")
    for field in ("remat", "grad_accum_steps"):
        if getattr(before.train, field) != getattr(after.train, field):
            changes.append(f"--config.train.{field}={getattr(after.train, field)}")
    return " ".join(changes)


def candidates(plan: Plan, *, same_hardware: bool = False) -> list[Plan]:
    """Analytic plans of every smaller per-chip batch, remat policy and (unless `same_hardware`) larger slice.

    On the same chips first, then on more; each by chip-seconds per token, which is what is paid for. What the analytic
    model finds too large is left out.
    """
    found = []
    for hardware in _sizes(plan.hardware, same_hardware):
        for remat in REMAT_POLICIES:
            for steps in _accumulations(plan, hardware):
                train = dataclasses.replace(plan.train, remat=remat, grad_accum_steps=steps)
                if hardware != plan.hardware:
                    train = dataclasses.replace(train, mesh=dataclasses.replace(train.mesh, fsdp=-1))
                if hardware == plan.hardware and train == plan.train:
                    continue
                try:
                    found.append(plan_step(train, plan.model, hardware, "analytic", plan.teacher))
                except UserError:
                    continue  # this batch does not split so
    found = [candidate for candidate in found if candidate.fits]
    return sorted(found, key=lambda one: (one.hardware.num_chips, one.chip_seconds_per_token))


def cheapest_fit(
    plan: Plan, *, same_hardware: bool = False, say: Callable[[str], None] = lambda line: None
) -> Plan | None:
    """The cheapest change that fits, tried as `plan_step` tries everything; None when none of the first few does."""
    for candidate in candidates(plan, same_hardware=same_hardware)[:ATTEMPTS]:
        say(f"trying {differences(plan, candidate)}")
        tried = plan_step(candidate.train, candidate.model, candidate.hardware, teacher=candidate.teacher)
        if tried.fits:
            return tried
    return None


def _sizes(hardware: Hardware, same_hardware: bool) -> Iterator[Hardware]:
    yield hardware
    bigger = None if same_hardware else larger(hardware)
    for _ in range(2):
        if bigger is not None:
            yield bigger
            bigger = larger(bigger)


def _accumulations(plan: Plan, hardware: Hardware) -> Iterator[int]:
    """grad_accum_steps that leave a chip its rows, and twice as many, as long as there are rows to split."""
    steps = max(1, plan.train.grad_accum_steps * plan.hardware.num_chips // hardware.num_chips)
    while steps * hardware.num_chips <= plan.train.batch_size:
        yield steps
        steps *= 2
