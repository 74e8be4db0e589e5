"""The process that tests kill: python asking_process.py URL LEDGER COUNT BUDGET."""

import asyncio
import sys

from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.distillation.asking import Asked, ask_all
from demiurgic_jax.distillation.ledger import Ledger
from demiurgic_jax.distillation.pricing import Price
from demiurgic_jax.distillation.request import TeacherRequest
from demiurgic_jax.distillation.teacher import HttpTeacher

PRICE = Price(input_per_million=1.0, output_per_million=1000.0)


def numbered_requests(count: int) -> list[TeacherRequest]:
    return [
        TeacherRequest(
            "complete", "python", "seed", "name", "path", "MIT", CompletionRequest(prompt=str(n), max_tokens=30, seed=n)
        )
        for n in range(count)
    ]


async def ask(url: str, path: str, count: int, budget: float) -> Asked:
    async with HttpTeacher(url, "test-model", backoff_seconds=0.01) as teacher:
        with Ledger(path, model="test-model") as ledger:
            return await ask_all(
                teacher, ledger, numbered_requests(count), price=PRICE, budget_dollars=budget, concurrency=4
            )


if __name__ == "__main__":
    print(asyncio.run(ask(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
