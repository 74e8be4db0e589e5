"""A plan in words, as one table, and as JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from demiurgic_jax.planning.ahead_of_time import missing_compiler
from demiurgic_jax.planning.alternatives import differences
from demiurgic_jax.planning.analytic import CYCLES_ERROR, MEMORY_ERROR
from demiurgic_jax.planning.budget import Teacher, on_demand_dollars, run_dollars
from demiurgic_jax.planning.estimate import Plan
from demiurgic_jax.planning.figures import chip_mesh, rows_per_chip

PARTS = {
    "parameter_bytes": "parameters",
    "optimizer_bytes": "optimizer",
    "teacher_bytes": "the teacher in the step",
    "batch_bytes": "batch",
    "temporary_bytes": "activations and other temporaries",
}


def describe(name: str, plan: Plan, tokens: float, teacher: Teacher | None) -> str:
    """Everything about one plan, for a terminal."""
    hardware, train, figures = plan.hardware, plan.train, plan.figures
    mesh = " ".join(f"{axis}={size}" for axis, size in chip_mesh(train.mesh, hardware).shape.items())
    model = f"{plan.model.num_parameters / 1e9:.2f} B parameters"
    lines = [
        f"{name} on {hardware.name}: {hardware.num_chips} × {hardware.chip.name} ({hardware.topology}), {model}",
        f"{train.batch_size} rows × {train.context:,} tokens a step, {rows_per_chip(train, hardware)} rows a chip at "
        f"once, grad_accum_steps={train.grad_accum_steps}, {train.compute_dtype}, remat={train.remat}, mesh {mesh}",
        "",
        f"Memory of one chip, GB ({_memory_source(plan)})",
    ]
    for field, part in parts_of([plan]).items():
        kept = f"   ({figures.kept_bytes / 1e9:.2f} wait for the backward pass)" if field == "temporary_bytes" else ""
        lines.append(f"  {getattr(figures, field) / 1e9:8.2f}  {part}{kept}")
    lines += [
        f"  {figures.peak_bytes / 1e9:8.2f}  peak, of {plan.limit_bytes / 1e9:.2f}: {verdict(plan)}",
        "",
        f"One step of one chip ({_work_source(plan)})",
        f"  {figures.useful_flops / 1e12:8,.1f}  TFLOP that the model needs",
        f"  {figures.recomputed_flops / 1e12:8,.1f}  TFLOP more that are executed, most of them computed again "
        f"({figures.recomputed_flops / figures.useful_flops:+.0%})",
    ]
    if figures.teacher_flops:
        lines.append(f"  {figures.teacher_flops / 1e12:8,.1f}  TFLOP of the teacher's forward pass")
    lines += [f"  {size / 1e9:8.2f}  GB sent by {kind}" for kind, size in figures.wire_bytes.items()]
    if figures.dcn_bytes:
        lines.append(f"  {figures.dcn_bytes / 1e9:8.2f}  GB sent to other slices")
    if figures.host_bytes:
        needed, there_is = figures.host_bytes / plan.step_seconds, hardware.chip.host_bandwidth
        lines.append(
            f"  {figures.host_bytes / 1e9:8.2f}  GB to the host's memory and back: {needed / 1e9:.1f} GB/s of PCIe's "
            f"{there_is / 1e9:.0f}" + ("" if needed < 0.99 * there_is else ", which BOUNDS the step")
        )
    if figures.cycles is not None:
        lines.append(
            f"  {figures.cycles / 1e9:8.2f}  billion cycles, the compiler's estimate without attention kernels"
        )
    if figures.unread_loops:
        lines.append(f"  {figures.unread_loops} loops have no readable trip count and were counted as one turn")
    lines += [
        "",
        f"ESTIMATE of speed, no chip was asked ({_speed_source(plan)})",
        f"  {plan.step_seconds:8.2f}  s a step"
        + (f"; {plan.exposed_step_seconds:.2f} were no transfer hidden" if hardware.chip.platform == "tpu" else ""),
        f"  {plan.mfu:8.1%}  MFU",
        f"  {plan.tokens_per_second:8,.0f}  tokens/s, {plan.tokens_per_second / hardware.num_chips:,.0f} a chip",
        "",
        f"{tokens / 1e9:,.3g} B tokens: {tokens / plan.tokens_per_step:,.0f} steps, {plan.days(tokens):,.1f} days, "
        f"{plan.chip_hours(tokens):,.0f} chip-hours (ESTIMATE)",
    ]
    lines += [
        f"  {money(dollars):>9}  {price.terms}: ${price.dollars_per_chip_hour:.2f} a chip-hour, {price.source}, "
        f"{price.as_of}"
        for price, dollars in run_dollars(plan, tokens)
    ]
    if teacher is not None:
        lines += ["", *_teacher_lines(teacher)]
    return "\n".join(lines)


def parts_of(plans: Sequence[Plan]) -> dict[str, str]:
    """The parts of memory that any of the plans has, field and name."""
    return {
        field: part
        for field, part in PARTS.items()
        if field != "teacher_bytes" or any(plan.teacher is not None for plan in plans)
    }


def verdict(plan: Plan) -> str:
    """Whether the plan fits, and by how much it does not."""
    missing = plan.figures.peak_bytes - plan.limit_bytes
    if not plan.fits:
        return f"DOES NOT FIT, by {missing / 1e9:.2f} GB"
    is_close = (
        plan.figures.memory_method == "analytic" and plan.figures.peak_bytes * (1 + MEMORY_ERROR) > plan.limit_bytes
    )
    return "fits, but by less than the model's error" if is_close else "fits"


def money(dollars: float) -> str:
    return f"${dollars:,.0f}" if dollars >= 10 else f"${dollars:.2f}"


def _memory_source(plan: Plan) -> str:
    if plan.figures.memory_method == "compiled":
        return "compiled for it" if plan.fits else "the compiler refuses; parts from the analytic model"
    return f"{_analytic(plan)}, error up to {MEMORY_ERROR:.0%}"


def _work_source(plan: Plan) -> str:
    return "read from the compiled program" if plan.figures.work_method == "compiled" else _analytic(plan)


def _analytic(plan: Plan) -> str:
    package = missing_compiler(plan.hardware)
    return "ANALYTIC MODEL" + (f", because {package} is not installed" if package else "")


def _speed_source(plan: Plan) -> str:
    if plan.hardware.chip.platform == "cuda":
        return "FLOPs over what published runs of this chip reached, within 10%"
    if plan.figures.cycles is not None:
        return "the compiler's cycles, and half of the peak for attention kernels"
    return f"cycles as libtpu would estimate them, error up to {CYCLES_ERROR:.0%} of that"


def _teacher_lines(teacher: Teacher) -> list[str]:
    rates = f"${teacher.dollars_per_million_input:g} and ${teacher.dollars_per_million_output:g} per million"
    if not teacher.dollars:
        return [f"Teacher: {teacher.examples:,} answers at no price per token ({rates})"]
    return [
        f"Teacher: {teacher.examples:,} answers × (about {teacher.input_tokens:,} tokens asked, at most "
        f"{teacher.output_tokens:,} answered) at {rates}: at most about {money(teacher.dollars)}"
    ]


def as_json(name: str, plan: Plan, tokens: float, teacher: Teacher | None) -> dict[str, Any]:
    """The same for programs; bytes, FLOPs and seconds, of one chip and one step."""
    return {
        "config": name,
        "hardware": {
            "name": plan.hardware.name,
            "chip": plan.hardware.chip.name,
            "num_chips": plan.hardware.num_chips,
            "topology": plan.hardware.topology,
        },
        "parameters": plan.model.num_parameters,
        "train": {
            field: getattr(plan.train, field)
            for field in ("batch_size", "context", "grad_accum_steps", "remat", "compute_dtype")
        },
        "figures": dataclasses.asdict(plan.figures)
        | {"peak_bytes": plan.figures.peak_bytes, "recomputed_flops": plan.figures.recomputed_flops},
        "limit_bytes": plan.limit_bytes,
        "fits": plan.fits,
        "estimate": {
            "step_seconds": plan.step_seconds,
            "exposed_step_seconds": plan.exposed_step_seconds,
            "mfu": plan.mfu,
            "tokens_per_second": plan.tokens_per_second,
            "tokens": tokens,
            "days": plan.days(tokens),
            "chip_hours": plan.chip_hours(tokens),
            "dollars": [
                dataclasses.asdict(price) | {"dollars": dollars} for price, dollars in run_dollars(plan, tokens)
            ],
        },
        "teacher": None if teacher is None else dataclasses.asdict(teacher) | {"dollars": teacher.dollars},
    }


def compare(plans: Sequence[tuple[Plan, Plan]], tokens: float) -> str:
    """One table of (as asked, what fits of it) plans, and which of them to take and why."""
    rows = []
    for asked, plan in plans:
        change = differences(asked, plan).replace("--config.train.", "")
        rows.append(
            (
                plan.hardware.name,
                change or "-",
                f"{plan.figures.peak_bytes / 1e9:.1f} of {plan.limit_bytes / 1e9:.1f}",
                "yes" if plan.fits else verdict(plan).removeprefix("DOES NOT FIT, by ") + " too much",
                plan.figures.memory_method,
                f"{plan.step_seconds:.2f}",
                f"{plan.mfu:.0%}",
                f"{plan.days(tokens):,.1f}",
                money(on_demand_dollars(plan, tokens)),
            )
        )
    header = ("hardware", "changed", "peak GB", "fits", "from", "s/step", "MFU", "days", "on-demand")
    head = f"{tokens / 1e9:,.3g} B tokens; s/step, MFU, days and dollars are an ESTIMATE\n\n"
    return head + table(header, rows) + "\n\n" + recommendation([plan for _, plan in plans], tokens)


def recommendation(plans: Sequence[Plan], tokens: float) -> str:
    """The cheapest plan that fits, at on-demand prices, and how the others lie."""
    fitting = sorted((plan for plan in plans if plan.fits), key=lambda plan: on_demand_dollars(plan, tokens))
    if not fitting:
        return "None of these fits: take more chips, a smaller batch or a shorter context."
    best, *others = fitting
    text = (
        f"Take {best.hardware.name}: of those that fit it is the cheapest, {money(on_demand_dollars(best, tokens))} "
        f"in {best.days(tokens):,.1f} days"
    )
    if others:
        second = others[0]
        more = on_demand_dollars(second, tokens) / on_demand_dollars(best, tokens) - 1
        text += f"; {second.hardware.name} would cost {more:.0%} more and take {second.days(tokens):,.1f} days"
    return text + "."


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in a terminal too."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [header, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
