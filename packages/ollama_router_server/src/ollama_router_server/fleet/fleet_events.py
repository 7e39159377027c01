"""Who is told of what a fleet learns."""

from __future__ import annotations

from collections.abc import Callable

from ollama_router_core.fleet.notices import Notice

__all__ = ["FleetEvents"]


class FleetEvents:
    """Listeners, called in the order in which they came."""

    def __init__(self) -> None:
        self._changed: list[Callable[[], None]] = []
        self._up: list[Callable[[str], None]] = []
        self._polled: list[Callable[[str], None]] = []
        self._notices: list[Callable[[Notice], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever facts or states changed in a way that may let a waiting request go."""
        self._changed.append(listener)

    def on_up(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the name of each server that comes up, once its facts are known."""
        self._up.append(listener)

    def on_polled(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the name of each server that has told what it has in memory, whoever asked it."""
        self._polled.append(listener)

    def on_notice(self, listener: Callable[[Notice], None]) -> None:
        """Call `listener` with each change of a server's state that this process found out by itself."""
        self._notices.append(listener)

    def changed(self) -> None:
        """Tell that facts or states changed."""
        for listener in self._changed:
            listener()

    def up(self, name: str) -> None:
        """Tell that a server came up."""
        for listener in self._up:
            listener(name)

    def polled(self, name: str) -> None:
        """Tell that a server has answered."""
        for listener in self._polled:
            listener(name)

    def noticed(self, notice: Notice) -> None:
        """Tell of a change of a server's state."""
        for listener in self._notices:
            listener(notice)
