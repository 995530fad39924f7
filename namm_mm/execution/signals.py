"""Signals that end a process, turned into an interrupt, so that a run says how it ended.

Slurm and containers send SIGTERM, a terminal that closes sends SIGHUP. By default both end the
process at once, and its run looks as if it were still going.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end.

    Attributes
    ----------
    number
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(f"stopped by {self.number.name}")


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise :class:`Stopped` where SIGTERM or SIGHUP arrives while the block runs.

    A signal that is ignored (``nohup``) or that has another handler is left alone, and so are all
    outside the main thread.
    """
    if current_thread() is not main_thread():
        yield
        return
    taken = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Give the handlers back that stood before the block.

    Ray takes SIGTERM for itself when it starts, in Python and, for a crash report, below Python. A
    handler that is set again replaces both.
    """
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: set below Python, where it cannot be read
                signal.signal(number, handler)


@contextmanager
def noted() -> Iterator[list[int]]:
    """Note the signals that ask to stop, beside their usual effect.

    Libraries may swallow the exception that a handler raises. Who runs such a library asks
    :func:`raise_noted` now and then.

    Returns
    -------
    list
        Grows by the number of every signal that arrives.
    """
    arrived: list[int] = []
    if current_thread() is not main_thread():
        yield arrived
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    handled = [number for number, handler in before.items() if callable(handler)]
    for number in handled:
        signal.signal(number, note)
    try:
        yield arrived
    except KeyboardInterrupt:  # a library's own does not say which signal it was
        raise_noted(arrived)
        raise
    finally:
        for number in handled:
            signal.signal(number, before[number])


def raise_noted(arrived: list[int]) -> None:
    """Raise the interrupt of the first signal that arrived, if one did."""
    if arrived:
        raise KeyboardInterrupt if arrived[0] == signal.SIGINT else Stopped(arrived[0])
