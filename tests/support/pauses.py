"""Time that passes on purpose: the behaviour of a slow peer, or a promised interval that nothing announces.

Whoever waits for something to happen polls it instead (`eventually`, `wait_until`).
"""

from __future__ import annotations

import time

import anyio

__all__ = ["stay_silent", "stay_silent_in_thread", "wait_out"]


async def stay_silent(seconds: float) -> None:
    """Play a server or client that does nothing for so long."""
    await anyio.sleep(seconds)


def stay_silent_in_thread(seconds: float) -> None:
    """Play one that lives in a thread."""
    time.sleep(seconds)


def wait_out(seconds: float) -> None:
    """Let an interval pass within which something is promised to have happened, unseen from outside."""
    time.sleep(seconds)
