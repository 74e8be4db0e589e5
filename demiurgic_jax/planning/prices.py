"""What an hour of a chip costs: list prices, each with whose list it is and the month for which it was last known.

Written down from that month's lists, not fetched: prices move by month and region, so look before you buy.
"""

from dataclasses import dataclass

from demiurgic_jax.errors import UserError


@dataclass(frozen=True)
class Price:
    """Dollars for one chip for one hour. `terms`: on-demand, spot, or committed for a year or three."""

    chip: str
    terms: str
    dollars_per_chip_hour: float
    source: str
    as_of: str


_GOOGLE = "Google Cloud list, cloud.google.com/tpu/pricing"
_LAMBDA = "Lambda list, 8-GPU nodes, lambda.ai/pricing"
_RUNPOD = "RunPod list, runpod.io/pricing"
_AWS = "AWS EC2 list, us-east-1, per GPU of"

PRICES = (
    Price("v4", "on-demand", 3.22, f"{_GOOGLE} (us-central2)", "2025-06"),
    Price("v4", "3 years", 1.45, f"{_GOOGLE} (us-central2)", "2025-06"),
    Price("v5e", "on-demand", 1.20, f"{_GOOGLE} (us-central1)", "2025-06"),
    Price("v5e", "1 year", 0.84, f"{_GOOGLE} (us-central1)", "2025-06"),
    Price("v5e", "3 years", 0.54, f"{_GOOGLE} (us-central1)", "2025-06"),
    Price("v5p", "on-demand", 4.20, f"{_GOOGLE} (us-east5)", "2025-06"),
    Price("v5p", "1 year", 2.94, f"{_GOOGLE} (us-east5)", "2025-06"),
    Price("v5p", "3 years", 1.89, f"{_GOOGLE} (us-east5)", "2025-06"),
    Price("v6e", "on-demand", 2.70, f"{_GOOGLE} (us-east1)", "2025-06"),
    Price("v6e", "1 year", 1.89, f"{_GOOGLE} (us-east1)", "2025-06"),
    Price("v6e", "3 years", 1.22, f"{_GOOGLE} (us-east1)", "2025-06"),
    Price("A100-80GB", "on-demand", 1.79, _LAMBDA, "2025-06"),
    Price("A100-80GB", "on-demand, hyperscaler", 5.12, f"{_AWS} p4de.24xlarge", "2025-05"),
    Price("H100", "on-demand", 2.99, _LAMBDA, "2025-06"),
    Price("H100", "on-demand, hyperscaler", 6.88, f"{_AWS} p5.48xlarge", "2025-06"),
    Price("H200", "on-demand", 3.99, _RUNPOD, "2025-06"),
)


def price_of(chip: str, terms: str = "on-demand") -> Price:
    """The row of the table; UserError lists the terms that are known for the chip."""
    rows = {price.terms: price for price in PRICES if price.chip == chip}
    if terms not in rows:
        raise UserError(f"no price of {chip} for terms {terms!r}: known are {', '.join(rows)}")
    return rows[terms]


def prices_of(chip: str) -> list[Price]:
    """Every row of a chip, on-demand first."""
    return [price for price in PRICES if price.chip == chip]
