"""Stopping a long run without losing it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_requests(caught: bool) -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C and SIGTERM only set a flag, which the yielded function reads; a second Ctrl-C acts.

    Args:
        caught: False leaves the signals alone, as does a thread that may not handle
            them.
    """
    wanted = threading.Event()
    if not caught or threading.current_thread() is not threading.main_thread():
        yield wanted.is_set
        return

    def ask(number: int, frame: Any) -> None:
        wanted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield wanted.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
