"""Live parts that several tabs of one user fetch at the same time, rendered once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

from ollama_router_server.console.rendering import Rendered

__all__ = ["SharedParts"]

_MOST: Final = 64


class SharedParts:
    """Parts rendered since the watchers' last look; the next look reports later changes.

    Args:
        moment: returns the number of the last look; None without watchers, then nothing is kept.
    """

    def __init__(self, moment: Callable[[], int | None]) -> None:
        self._moment = moment
        self._of: int | None = None
        self._parts: dict[Hashable, Rendered] = {}

    def find(self, key: Hashable) -> Rendered | None:
        """Find the part rendered under this key since the last look."""
        return self._now().get(key)

    def keep(self, key: Hashable, part: Rendered, *, begun: int | None) -> None:
        """Keep a part whose rendering started at look `begun`, unless another look followed, as it may be older."""
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
