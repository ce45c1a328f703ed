"""SIGTERM and SIGHUP, by which systems, schedulers and closed terminals end a program: handled like Ctrl-C."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Windows has no SIGHUP."""

Handler = Callable[[int, FrameType | None], object]


class Terminated(KeyboardInterrupt):
    """One of the signals came. It derives from KeyboardInterrupt, so handlers of Ctrl-C see it too."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def as_interrupts() -> Iterator[None]:
    """Raise Terminated in the block when one of the signals comes. An ignored signal, as by nohup, stays ignored."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may say what a signal does
        yield
        return
    usual = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    handle(_raise, usual)
    try:
        yield
    finally:
        for number in usual:
            signal.signal(number, signal.SIG_DFL)


def handle(handler: Handler, numbers: tuple[int, ...] | list[int] = SIGNALS) -> None:
    """Call a function when one of the signals comes."""
    for number in numbers:
        signal.signal(number, handler)


def number_of(interrupt: KeyboardInterrupt) -> int:
    """Return the signal that raised an exception."""
    return interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT


def exit_code(number: int) -> int:
    """Return the exit code of a program that a signal ended, as a shell reports it."""
    return 128 + number


def end_by(number: int) -> None:
    """End this process by the signal itself, so that its parent sees the cause."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)
