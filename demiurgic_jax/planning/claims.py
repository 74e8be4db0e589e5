"""What the project set out to do for how much, held against the plan.

Each claim is a size, a piece of hardware, and days or dollars; a token count is what it does not always say. So it is
turned round: at which token counts does it hold?
"""

from collections.abc import Sequence
from dataclasses import dataclass

from demiurgic_jax.model.config import named_config
from demiurgic_jax.planning.budget import on_demand_dollars
from demiurgic_jax.planning.estimate import Plan, plan_step
from demiurgic_jax.planning.hardware import find_hardware
from demiurgic_jax.planning.prices import price_of
from demiurgic_jax.planning.report import money, table
from demiurgic_jax.training.config import TrainConfig

Range = tuple[float, float]
# Tried in this order; the first that fits is taken: large batches hide more, and only need makes use of the host.
_TRIED = ((8, "full"), (4, "full"), (2, "full"), (1, "full"), (1, "offload"))
_CONTEXT = 4096
_TOKENS = (1e9, 5e9, 10e9, 20e9, 50e9, 140e9)


@dataclass(frozen=True)
class Claim:
    """`days` and `dollars` are from-to; `tokens` where the claim names them."""

    text: str
    size: str
    hardware: str
    days: Range | None = None
    dollars: Range | None = None
    tokens: float | None = None


CLAIMS = (
    Claim("7B by distillation on 8 × A100 in 2–4 weeks", "7b", "8xA100-80GB", days=(14, 28)),
    Claim("7B by distillation on 8 × A100 for $3,000–9,000", "7b", "8xA100-80GB", dollars=(3000, 9000)),
    Claim("7B from scratch, 140 B tokens, $15,000–20,000", "7b", "8xA100-80GB", dollars=(15_000, 20_000), tokens=140e9),
    Claim("34B on 16 × A100 in 4–8 weeks", "34b", "16xA100-80GB", days=(28, 56)),
    Claim("70B on 16 × A100 in 4–8 weeks", "70b", "16xA100-80GB", days=(28, 56)),
    Claim("70B on 64 × A100 in 4–8 weeks", "70b", "64xA100-80GB", days=(28, 56)),
)


def claims_report() -> str:
    """Markdown: what each claim comes to, and the days and dollars of every size at round token counts."""
    plans: dict[tuple[str, str], Plan] = {}
    for claim in CLAIMS:
        key = claim.size, claim.hardware
        plans[key] = plans[key] if key in plans else _largest_batch(*key)
    rows = [(claim.text, _judgement(claim, plans[claim.size, claim.hardware])) for claim in CLAIMS]
    price = price_of("A100-80GB")
    header = (
        f"All times and dollars are an ESTIMATE ({_CONTEXT:,} tokens of context, bfloat16, full recomputation, "
        f"${price.dollars_per_chip_hour:.2f} a GPU-hour: {price.source}, {price.as_of})."
    )
    parts = [header, table(("claim", "what it comes to"), rows), _by_tokens(list(plans.items()))]
    return "\n\n".join(parts)


def _largest_batch(size: str, hardware_name: str) -> Plan:
    hardware = find_hardware(hardware_name)
    for rows, remat in _TRIED:
        train = TrainConfig(1000, rows * hardware.num_chips, _CONTEXT, compute_dtype="bfloat16", remat=remat)
        plan = plan_step(train, named_config(size), hardware)
        if plan.fits:
            return plan
    return plan


def _judgement(claim: Claim, plan: Plan) -> str:
    if not plan.fits:
        missing = plan.figures.peak_bytes - plan.limit_bytes
        return f"does not hold: one row a GPU takes {missing / 1e9:.1f} GB more than there is"
    if claim.tokens is not None and claim.dollars is not None:
        cost = on_demand_dollars(plan, claim.tokens)
        low, high = claim.dollars
        word = "holds" if low <= cost <= high else "does not hold" if cost > high else "holds, and less is enough"
        return f"{word}: {money(cost)} in {plan.days(claim.tokens):,.0f} days on {plan.hardware.name}"
    if claim.days is not None:
        low, high = (days * 86_400 * plan.tokens_per_second for days in claim.days)
        spent = [money(on_demand_dollars(plan, tokens)) for tokens in (low, high)]
        return f"holds for {low / 1e9:,.0f}–{high / 1e9:,.0f} B tokens ({spent[0]}–{spent[1]}); fewer tokens take less"
    assert claim.dollars is not None
    low, high = (dollars / on_demand_dollars(plan, 1) for dollars in claim.dollars)
    days = [f"{plan.days(tokens):,.0f}" for tokens in (low, high)]
    return f"holds for {low / 1e9:,.0f}–{high / 1e9:,.0f} B tokens ({days[0]}–{days[1]} days); fewer tokens cost less"


def _by_tokens(plans: Sequence[tuple[tuple[str, str], Plan]]) -> str:
    header = ("", "from", "rows a GPU", "peak GB", "tokens/s a GPU", "MFU", *(f"{t / 1e9:g} B" for t in _TOKENS))
    rows = []
    for (size, hardware), plan in plans:
        if not plan.fits:
            continue
        spent = [f"{plan.days(t):,.1f} d, {money(on_demand_dollars(plan, t))}" for t in _TOKENS]
        chips = plan.hardware.num_chips
        rows.append(
            (
                f"{size} on {hardware}",
                plan.figures.memory_method,
                f"{plan.train.batch_size // chips}, remat={plan.train.remat}",
                f"{plan.figures.peak_bytes / 1e9:.1f}",
                f"{plan.tokens_per_second / chips:,.0f}",
                f"{plan.mfu:.0%}",
                *spent,
            )
        )
    return table(header, rows)
