"""Stopping a training between two chunks, when Ctrl-C or SIGTERM asks for it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import jax
import numpy as np


class Stop:
    """The signal that asked this process to stop, if any."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def asked(self) -> bool:
        """Whether any process was asked to stop; all must call it, and get the same answer."""
        if jax.process_count() == 1:
            return self.signal is not None
        from jax.experimental import multihost_utils

        signals = multihost_utils.process_allgather(np.int32(self.signal or 0))
        self.signal = int(signals.max()) or None
        return self.signal is not None

    def leave(self, message: str) -> None:
        """Ends the process in the way of the signal.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after SIGTERM, with a message and the exit code that shells expect.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        print(f"\nSIGTERM: {message}", file=sys.stderr, flush=True)
        raise SystemExit(128 + signal.SIGTERM)


@contextmanager
def stopping() -> Iterator[Stop]:
    """While inside, the first Ctrl-C or SIGTERM is only noted; a second Ctrl-C interrupts at once.

    In another thread than the main one nothing is noted: Python handles signals there alone.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = number
        again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
        # Not `print`: the signal may have come while something else was being printed.
        with suppress(OSError):
            os.write(2, f"\nstopping after this chunk of steps, to save it{again}\n".encode())

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            # A handler that was not set from Python is None, and cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
