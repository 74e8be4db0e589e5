"""A teacher's limits on requests and tokens per minute, kept on our side and learnt from what the teacher says.

Two token buckets. Their rates are the configured ones, or those that the server states in its headers, or what it let
through lately: once more than one answer in ten is a 429, the rate falls to just below that, and then grows again by
a little every second (additive increase, multiplicative decrease; but falling to what was measured instead of by half,
so that next to nothing of the limit is left unused). A Retry-After then holds everything back for as long as it says;
rarer 429s are the affair of the one request.
"""

import asyncio
import math
import re
import time
from collections import deque
from dataclasses import dataclass

# Of the measured rate, at too many 429s; and growth per second afterwards, faster once nothing was refused for a while.
_FALL, _GROWTH, _FAST_GROWTH, _QUIET_SECONDS = 0.98, 0.01, 0.1, 3.0
_SHARE_REFUSED, _FEW_ANSWERS = 0.1, 20
_WINDOW_SECONDS = 4.0
_BURST_SECONDS = 0.5
_LEAST_RATE = 0.05
_LONGEST_HOLD = 120.0


@dataclass(frozen=True)
class StatedLimit:
    """What a server says that it allows per minute, and how much of that is left right now."""

    per_minute: float
    remaining: float | None


class _Bucket:
    """Fills at `rate` a second (None: without limit), never above what half a second brings, or one unit."""

    def __init__(self, per_minute: float):
        self.most = per_minute / 60 if per_minute > 0 else None
        self.rate = self.most
        self._level, self._at = self._full(), time.monotonic()

    def _full(self) -> float:
        return 0.0 if self.rate is None else max(1.0, self.rate * _BURST_SECONDS)

    def set_rate(self, rate: float) -> None:
        self._fill(time.monotonic())
        if self.rate is None:
            self._level = 0.0
        self.rate = max(_LEAST_RATE, rate if self.most is None else min(rate, self.most))
        self._level = min(self._level, self._full())

    def _fill(self, now: float) -> None:
        if self.rate is not None:
            self._level = min(self._full(), self._level + (now - self._at) * self.rate)
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there. More than the bucket holds is taken once it is full, as a debt."""
        if self.rate is None:
            return 0.0
        self._fill(now)
        return max(0.0, (min(amount, self._full()) - self._level) / self.rate)

    def take(self, amount: float) -> None:
        if self.rate is not None:
            self._level -= amount


class Limiter:
    """One teacher's limits. `requests_per_minute` and `tokens_per_minute` are the most; 0 leaves it to the server."""

    def __init__(self, requests_per_minute: float = 0.0, tokens_per_minute: float = 0.0):
        self._requests, self._tokens = _Bucket(requests_per_minute), _Bucket(tokens_per_minute)
        self._held_until = self._refused_at = self._grown_at = 0.0
        self._recent: deque[list[float]] = deque()  # [quarter of a second, let through, refused]
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def rate(self) -> float | None:
        """Requests per second that are sent at most; None without limit."""
        return self._requests.rate

    def try_acquire(self, tokens: float) -> bool:
        """Takes one request of `tokens` tokens, if it may go out now and nothing waits before it."""
        now = time.monotonic()
        if self._waiting or self._wait(tokens, now) > 0:
            return False
        self._take(tokens)
        return True

    async def acquire(self, tokens: float) -> None:
        """Waits until one request of `tokens` tokens may go out; first come, first served."""
        if self.try_acquire(tokens):
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((tokens, granted))
        self._pump()
        await granted

    def let_through(self, requests: StatedLimit | None = None, tokens: StatedLimit | None = None) -> None:
        """To be called for every attempt that met no 429, with what the answer's headers say of the limits."""
        now = time.monotonic()
        self._note(now, 1)
        for bucket, stated in ((self._requests, requests), (self._tokens, tokens)):
            if stated is not None and bucket.rate is None:
                bucket.most = stated.per_minute / 60
                bucket.set_rate(bucket.most)
        self._grow(now)

    def give_back(self, tokens: float) -> None:
        """Of the tokens taken for a request, those that it did not use after all."""
        self._tokens.take(-tokens)

    def refused(self, retry_after: float | None) -> None:
        """To be called for every 429."""
        now = time.monotonic()
        self._note(now, 2)
        through, refused = (sum(each[column] for each in self._recent) for column in (1, 2))
        enough = through + refused >= _FEW_ANSWERS
        if refused <= (_SHARE_REFUSED if enough else 0.5) * (through + refused):
            return
        if retry_after is not None:
            self._held_until = max(self._held_until, now + min(retry_after, _LONGEST_HOLD))
        # One flood of 429s is one piece of news.
        if through and now - self._refused_at >= 1.0:
            measured = through / max(0.5, now - self._recent[0][0])
            current = self._requests.rate
            self._requests.set_rate(_FALL * (measured if current is None else min(measured, current)))
            self._refused_at = self._grown_at = now

    def _note(self, now: float, column: int) -> None:
        quarter = math.floor(now * 4) / 4
        if not self._recent or self._recent[-1][0] != quarter:
            self._recent.append([quarter, 0.0, 0.0])
            while self._recent[0][0] < now - _WINDOW_SECONDS:
                self._recent.popleft()
        self._recent[-1][column] += 1

    def _grow(self, now: float) -> None:
        rate, passed = self._requests.rate, now - self._grown_at
        if rate is not None and passed >= 0.25 and self._waiting:
            quiet = now - self._refused_at > _QUIET_SECONDS
            self._requests.set_rate(rate * (1 + min(passed, 1.0) * (_FAST_GROWTH if quiet else _GROWTH)))
            self._grown_at = now

    def _wait(self, tokens: float, now: float) -> float:
        return max(self._held_until - now, self._requests.wait(1, now), self._tokens.wait(tokens, now))

    def _take(self, tokens: float) -> None:
        self._requests.take(1)
        self._tokens.take(tokens)

    def _pump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        while self._waiting:
            tokens, granted = self._waiting[0]
            if granted.done():  # whoever waited was cancelled
                self._waiting.popleft()
                continue
            wait = self._wait(tokens, now)
            if wait > 0:
                # Not at every thousandth of a second: some go out together.
                self._timer = asyncio.get_running_loop().call_later(max(wait, 0.005), self._pump)
                return
            self._waiting.popleft()
            self._take(tokens)
            granted.set_result(None)


def stated_limit(limit: str | None, remaining: str | None, reset_seconds: float | None) -> StatedLimit | None:
    """From a server's headers. Where it says in how many seconds what is used will be there again, that gives the
    rate, whatever the limit's period; else the limit is taken as per minute. None for what is no number."""
    try:
        most, left = float(limit or "nan"), None if remaining is None else float(remaining)
    except ValueError:
        return None
    if not most > 0 or math.isinf(most):
        return None
    used = 0.0 if left is None else most - left
    if reset_seconds and reset_seconds > 0 and used >= 0.05 * most:
        return StatedLimit(used / reset_seconds * 60, left)
    return StatedLimit(most, left)


def duration(text: str | None) -> float | None:
    """Seconds of durations such as "6m0s", "1.5s" or "20ms"; None for anything else."""
    if not text or not re.fullmatch(r"(?:[\d.]+(?:ms|s|m|h|d))+", text):
        return None
    seconds = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    try:
        return sum(float(number) * seconds[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h|d)", text))
    except ValueError:
        return None
