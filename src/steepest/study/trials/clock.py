"""The clock of a run: the seconds of its steps, and of nothing between them."""

import time


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

    def paused(self) -> "Clock":
        """Stop the clock inside a block. Inner blocks change nothing."""
        return self

    def __enter__(self) -> None:  # no generator: a loop may pause the clock several times in a step
        if not self._pauses:
            self._before += time.perf_counter() - self._begun
        self._pauses += 1

    def __exit__(self, *_: object) -> None:
        self._pauses -= 1
        if not self._pauses:
            self._begun = time.perf_counter()
