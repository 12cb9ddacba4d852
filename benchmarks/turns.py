"""Two calls timed in turns, so that a machine that changes its speed changes it for both."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_TURNS = 21


def seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@dataclass
class Turns:
    """Seconds of ours and of what it is compared with, turn by turn."""

    ours: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)

    def add(self, ours: Callable[[], object], other: Callable[[], object], turns: int) -> None:
        """Time `turns` more turns; who begins alternates."""
        gc.collect()
        for _ in range(turns):
            pair = [(ours, self.ours), (other, self.other)]
            for call, found in pair if len(self.ours) % 2 == 0 else reversed(pair):
                found.append(seconds_of(call))

    @property
    def ratio(self) -> float:
        """How many times faster ours is: the median over the turns."""
        return statistics.median(b / a for a, b in zip(self.ours, self.other, strict=True))


def in_turns(
    ours: Callable[[], object], other: Callable[[], object], rounds: int, budget: float = 4.0, most: int = MOST_TURNS
) -> Turns:
    """Time both, `rounds` turns or what fits into `budget` seconds, after one turn that does not count.

    Where neither is faster by much, as many turns again: there a little noise decides.
    """
    first = seconds_of(other) + seconds_of(ours)
    found, turns = Turns(), max(rounds, min(most, round(budget / first)))
    found.add(ours, other, turns)
    if most > 1 and 0.85 < found.ratio < 1.18:
        found.add(ours, other, turns)
    return found
