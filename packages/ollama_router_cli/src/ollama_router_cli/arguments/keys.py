"""Keys pressed on a terminal, one at a time, without waiting for Enter."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

__all__ = ["pressed_keys"]

_ESCAPES: Final = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[5~": "page up", "\x1b[6~": "page down", "\x1b": "escape"}
_NAMES: Final = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace"}


@contextmanager
def pressed_keys() -> Iterator[Callable[[float], str]]:
    """Yield a function that waits that many seconds for a key and returns its character or name, empty without one.

    The terminal does not echo. If standard input is no terminal, the function only waits.
    """
    if not sys.stdin.isatty() or find_spec("termios") is None:
        yield _only_wait
        return
    import termios  # noqa: PLC0415 - not on every platform
    import tty  # noqa: PLC0415

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield lambda seconds: _key(number, seconds)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _only_wait(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _key(number: int, seconds: float) -> str:
    if not select.select([number], [], [], seconds)[0]:
        return ""
    text = os.read(number, 16).decode("utf-8", "ignore")
    return _ESCAPES.get(text) or _NAMES.get(text[:1]) or text[:1]
