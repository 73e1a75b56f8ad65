"""Ctrl-C while training: the step that runs is finished first, so that the checkpoint is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopSign:
    """Whether somebody asked to stop."""

    up: bool = False


@contextmanager
def stop_sign() -> Iterator[StopSign]:
    """Let the first Ctrl-C (or SIGTERM) put up the sign; a second one interrupts at once.

    Only the main thread can listen; elsewhere the sign stays down.
    """
    sign = StopSign()
    if threading.current_thread() is not threading.main_thread():
        yield sign
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if sign.up:
            raise KeyboardInterrupt
        sign.up = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield sign
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
