"""The process that tests measure and kill: python asking_process.py URL LEDGER '{"count": 100, "dollars": 1.0}'."""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.distillation.asking import Asked, Pace, ask_all
from demiurgic_jax.distillation.ledger import Budget, Ledger
from demiurgic_jax.distillation.panel import Panel
from demiurgic_jax.distillation.pricing import NANODOLLARS, Price
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.teacher import HttpTeacher

PRICE = Price(input_per_million=1.0, output_per_million=10.0)


def numbered_requests(count: int, padding: int = 0) -> list[TeacherRequest]:
    """Requests whose prompts are numbers, followed by `padding` bytes."""
    return [
        TeacherRequest(
            "complete",
            "python",
            "seed",
            "name",
            "path",
            "MIT",
            CompletionRequest(prompt=f"{n} {'x' * padding}".strip(), max_tokens=30, seed=n),
        )
        for n in range(count)
    ]


def budget(dollars: float | None) -> Budget:
    return Budget(None if dollars is None else round(dollars * NANODOLLARS))


async def ask(url: str, path: str | Path, count: int, dollars: float | None, **options: Any) -> Asked:
    """Asks `count` numbered requests; `options` are those of HttpTeacher and of Pace."""
    of_pace = {name: options.pop(name) for name in set(options) & set(Pace.__dataclass_fields__)}
    pace = Pace(**{"concurrency": 4, "backoff_seconds": 0.01, **of_pace})
    requests = numbered_requests(count, options.pop("padding", 0))
    limit = options.pop("budget", None) or budget(dollars)
    async with HttpTeacher(url, "test-model", **{"price": PRICE, **options}) as teacher:
        with Ledger(path, model="test-model") as ledger:
            return await ask_all(Panel([teacher]), ledger, requests, budget=limit, pace=pace)


if __name__ == "__main__":
    settings = json.loads(sys.argv[3])
    count, dollars = settings.pop("count"), settings.pop("dollars", None)
    began = time.process_time()
    asked = asyncio.run(ask(sys.argv[1], sys.argv[2], count, dollars, **settings))
    used = {"cpu": time.process_time() - began, "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    print(json.dumps(vars(asked) | used))
