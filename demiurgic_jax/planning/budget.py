"""Days and dollars of a run, and the teacher's bill."""

from dataclasses import dataclass

from demiurgic_jax.planning.estimate import Plan
from demiurgic_jax.planning.prices import Price, prices_of


@dataclass(frozen=True)
class Teacher:
    """What is asked of a teacher: `examples` answers, tokens of one question and at most of one answer, dollars per
    million of each. A teacher that is served here costs its electricity and is counted as 0."""

    examples: int
    input_tokens: int
    output_tokens: int
    dollars_per_million_input: float
    dollars_per_million_output: float

    @property
    def dollars(self) -> float:
        per_example = (
            self.input_tokens * self.dollars_per_million_input + self.output_tokens * self.dollars_per_million_output
        )
        return self.examples * per_example / 1e6


def run_dollars(plan: Plan, tokens: float) -> list[tuple[Price, float]]:
    """The run's price under each of the chip's known terms, on-demand first."""
    hours = plan.chip_hours(tokens)
    return [(price, hours * price.dollars_per_chip_hour) for price in prices_of(plan.hardware.chip.name)]


def on_demand_dollars(plan: Plan, tokens: float) -> float:
    return run_dollars(plan, tokens)[0][1]
