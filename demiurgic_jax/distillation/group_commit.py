"""Ledger changes of many requests written together: one wait for the disk, however many are asked at once.

Statements run in the event loop (some ten microseconds each), the commit, which waits for the disk, in a thread beside
it. Changes that come meanwhile make the next group. A change counts only once its group is on disk.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from demiurgic_jax.distillation.ledger import BudgetSpentError, Ledger

# So many changes hold the event loop for some ten milliseconds at most.
_MOST_AT_ONCE = 512


class GroupCommit:
    """An async context manager, left when all changes are on disk. One event loop per instance."""

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._waiting: list[tuple[Callable[[], None], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            await self._writer
        self._disk.shutdown()

    def submit(self, change: Callable[[], None]) -> "asyncio.Future[None]":
        """`change` calls methods of the ledger; what is awaited is that it is on disk. Changes happen in order. The
        future raises what `change` raises (BudgetSpentError), or UserError where the disk cannot be written."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return done

    def post(self, change: Callable[[], None]) -> None:
        """Like `submit`, for what nobody waits for; where it cannot be written, what is submitted next will say so."""
        self.submit(change).add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            refused: dict[int, Exception] = {}
            try:
                self._ledger.begin()
                for number, (change, _) in enumerate(group):
                    try:
                        change()
                    except BudgetSpentError as error:  # raised before anything is written
                        refused[number] = error
                await asyncio.get_running_loop().run_in_executor(self._disk, self._ledger.commit)
            except Exception as error:
                self._ledger.rollback()
                refused = dict.fromkeys(range(len(group)), error)
            for number, (_, done) in enumerate(group):
                if done.cancelled():
                    continue
                if number in refused:
                    done.set_exception(refused[number])
                else:
                    done.set_result(None)
