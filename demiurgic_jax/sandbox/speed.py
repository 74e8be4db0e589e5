"""How fast this machine's processor is, so that limits in CPU seconds mean the same work everywhere."""

import functools
import time

# CPU seconds that `_work` takes on the machine for which the default limits were chosen.
_REFERENCE_SECONDS = 0.017
_SMALLEST, _LARGEST = 0.5, 8.0


def _work() -> int:
    total = 0
    table = {}
    for number in range(200_000):
        table[number & 1023] = total
        total = (total * 31 + number) % 1_000_003
    return total


@functools.cache
def slowness() -> float:
    """CPU seconds here for one on the reference machine, measured once per process.

    The fastest of several turns, in CPU time: other programs on the machine do not count. Kept between 0.5 and 8.
    """
    fastest = float("inf")
    for _ in range(5):
        began = time.thread_time()
        _work()
        fastest = min(fastest, time.thread_time() - began)
    return min(_LARGEST, max(_SMALLEST, fastest / _REFERENCE_SECONDS))
