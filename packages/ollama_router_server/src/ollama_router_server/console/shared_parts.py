"""Parts of pages that several tabs of one user fetch at the same moment: filled once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

from ollama_router_server.console.rendering import Rendered

__all__ = ["SharedParts"]

_MOST: Final = 64


class SharedParts:
    """What was filled since the watchers' last look; whatever has changed meanwhile, the next look will name.

    Args:
        moment: the number of the last look; None without watchers, and then nothing is kept.
    """

    def __init__(self, moment: Callable[[], int | None]) -> None:
        self._moment = moment
        self._of: int | None = None
        self._parts: dict[Hashable, Rendered] = {}

    def find(self, key: Hashable) -> Rendered | None:
        """Find what was kept under this key since the last look."""
        return self._now().get(key)

    def keep(self, key: Hashable, part: Rendered, *, begun: int | None) -> None:
        """Keep a part that was begun at this moment, unless another look has come since: it may be older than that."""
        parts = self._now()
        if begun is not None and begun == self._of and len(parts) < _MOST:
            parts[key] = part

    @property
    def moment(self) -> int | None:
        """The number of the last look."""
        return self._moment()

    def _now(self) -> dict[Hashable, Rendered]:
        moment = self._moment()
        if moment != self._of:
            self._of, self._parts = moment, {}
        return self._parts
