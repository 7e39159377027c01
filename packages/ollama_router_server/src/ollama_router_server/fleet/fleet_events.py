"""Listeners to changes of the fleet."""

from __future__ import annotations

from collections.abc import Callable

from ollama_router_core.fleet.notices import Notice

__all__ = ["FleetEvents"]


class FleetEvents:
    """Listeners, called in order of registration."""

    def __init__(self) -> None:
        self._changed: list[Callable[[], None]] = []
        self._up: list[Callable[[str], None]] = []
        self._polled: list[Callable[[str], None]] = []
        self._notices: list[Callable[[Notice], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after changes of facts or states that may let a waiting request start."""
        self._changed.append(listener)

    def on_up(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the name of each server that comes up, once its facts are known."""
        self._up.append(listener)

    def on_polled(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the name of each server whose loaded models were polled, by whichever process."""
        self._polled.append(listener)

    def on_notice(self, listener: Callable[[Notice], None]) -> None:
        """Call `listener` with each change of a server's state that this process detected itself."""
        self._notices.append(listener)

    def changed(self) -> None:
        """Report that facts or states changed."""
        for listener in self._changed:
            listener()

    def up(self, name: str) -> None:
        """Report that a server came up."""
        for listener in self._up:
            listener(name)

    def polled(self, name: str) -> None:
        """Report that a server was polled."""
        for listener in self._polled:
            listener(name)

    def noticed(self, notice: Notice) -> None:
        """Report a change of a server's state."""
        for listener in self._notices:
            listener(notice)
