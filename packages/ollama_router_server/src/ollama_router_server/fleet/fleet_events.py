"""Events of the fleet, for the other services of a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ollama_router_core.fleet.notices import Notice

__all__ = ["FleetEvents"]


def _ignore(*_: object) -> None:
    """Ignore an event without a listener."""


@dataclass(slots=True)
class FleetEvents:
    """The listener to each event.

    Attributes:
        changed: facts or states have changed, and a waiting request may be able to start.
        up: the server of this name came up, and its facts are known.
        polled: the loaded models of the server of this name were polled, by whichever process.
        noticed: this process itself detected a change of a server's state.
    """

    changed: Callable[[], None] = _ignore
    up: Callable[[str], None] = _ignore
    polled: Callable[[str], None] = _ignore
    noticed: Callable[[Notice], None] = _ignore
