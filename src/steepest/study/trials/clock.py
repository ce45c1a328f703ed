"""The clock of a run: the seconds of its steps, and of nothing between them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds of steps. It starts anew between two steps, and a lap adds the time since then.

    Code inside `with clock.paused():` does not count.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        """The sum of all laps."""
        self._begun = 0.0
        self._before = 0.0  # seconds of this lap before its last pause
        self._pauses = 0

    def start(self) -> None:
        """Begin a lap. The time since the last one is dropped."""
        self._before, self._begun = 0.0, time.perf_counter()

    def lap(self) -> None:
        """Add the time since `start` to the sum."""
        self.seconds += self._before + time.perf_counter() - self._begun

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock inside the block. Inner blocks change nothing."""
        if not self._pauses:
            self._before += time.perf_counter() - self._begun
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if not self._pauses:
                self._begun = time.perf_counter()
