"""What paid teachers cost: list prices, each with whose list it is and the month for which it was last known.

Written down from that month's lists, not fetched: prices move, so look before you spend, and lay your own over these
with config.teacher.dollars_per_million_input and _output.
"""

from dataclasses import dataclass

from demiurgic_jax.distillation.pricing import Price
from demiurgic_jax.errors import UserError


@dataclass(frozen=True)
class ListPrice:
    """Dollars per million tokens of one model."""

    model: str
    input_per_million: float
    output_per_million: float
    source: str
    as_of: str

    @property
    def price(self) -> Price:
        return Price(self.input_per_million, self.output_per_million)


_OPENAI = "OpenAI list, platform.openai.com/docs/pricing"
_ANTHROPIC = "Anthropic list, docs.anthropic.com/en/docs/about-claude/pricing"
_TOGETHER = "Together list, together.ai/pricing"

LIST_PRICES = (
    ListPrice("gpt-4.1", 2.00, 8.00, _OPENAI, "2025-06"),
    ListPrice("gpt-4.1-mini", 0.40, 1.60, _OPENAI, "2025-06"),
    ListPrice("gpt-4.1-nano", 0.10, 0.40, _OPENAI, "2025-06"),
    ListPrice("gpt-4o", 2.50, 10.00, _OPENAI, "2025-06"),
    ListPrice("gpt-4o-mini", 0.15, 0.60, _OPENAI, "2025-06"),
    ListPrice("o4-mini", 1.10, 4.40, _OPENAI, "2025-06"),
    ListPrice("claude-opus-4-20250514", 15.00, 75.00, _ANTHROPIC, "2025-06"),
    ListPrice("claude-sonnet-4-20250514", 3.00, 15.00, _ANTHROPIC, "2025-06"),
    ListPrice("claude-3-7-sonnet-20250219", 3.00, 15.00, _ANTHROPIC, "2025-06"),
    ListPrice("claude-3-5-haiku-20241022", 0.80, 4.00, _ANTHROPIC, "2025-06"),
    ListPrice("Qwen/Qwen2.5-Coder-32B-Instruct", 0.80, 0.80, _TOGETHER, "2025-06"),
    ListPrice("deepseek-ai/DeepSeek-V3", 1.25, 1.25, _TOGETHER, "2025-06"),
)


def list_price(model: str) -> ListPrice:
    """The row of `model`. UserError, naming the mend, where there is none."""
    for row in LIST_PRICES:
        if row.model == model:
            return row
    known = ", ".join(row.model for row in LIST_PRICES)
    raise UserError(
        f"no price is known for the teacher {model!r}, and there is a budget to keep: give "
        f"config.teacher.dollars_per_million_input and _output (0 for a server of your own); known are {known}"
    )
