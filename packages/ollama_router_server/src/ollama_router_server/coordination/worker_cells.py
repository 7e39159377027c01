"""Each worker's own state in shared memory: its last beat, since when its requests wait, its figures."""

from __future__ import annotations

from typing import Final

from ollama_router_core.coordination.interface import Figure

__all__ = ["WorkerCells"]

_BEAT, _SINCE, _FIGURES = 0, 1, 2
_FIGURE_CELLS: Final = {figure: cell for cell, figure in enumerate(Figure, _FIGURES)}
_THOUSAND: Final = 1000
"""Times are stored as whole milliseconds plus one, since 0 means none."""


class WorkerCells:
    """`WIDTH` numbers per worker, written by that worker alone. Times are seconds of the machine's monotonic clock."""

    WIDTH: Final = _FIGURES + len(Figure)

    __slots__ = ("_words",)

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def beat(self, worker: int, now: float) -> None:
        """Record a beat."""
        self._words[worker * self.WIDTH + _BEAT] = _word(now)

    def last_beat(self, worker: int) -> float | None:
        """Return a worker's last beat; None before its first."""
        word = self._words[worker * self.WIDTH + _BEAT]
        return (word - 1) / _THOUSAND if word else None

    def wait(self, worker: int, since: float | None) -> None:
        """Record when a worker's longest waiting request arrived; None if none waits."""
        self._words[worker * self.WIDTH + _SINCE] = 0 if since is None else _word(since)

    def waits_since(self, worker: int) -> int:
        """Return that time as a comparable number; 0 if none waits."""
        return int(self._words[worker * self.WIDTH + _SINCE])

    def show(self, worker: int, figure: Figure, value: int) -> None:
        """Set a worker's figure."""
        self._words[worker * self.WIDTH + _FIGURE_CELLS[figure]] = value

    def total(self, figure: Figure) -> int:
        """Return the sum of a figure over all workers."""
        return sum(self._words[_FIGURE_CELLS[figure] :: self.WIDTH].tolist())

    def clear(self, worker: int) -> None:
        """Clear the state of a worker that is gone."""
        for cell in range(worker * self.WIDTH, (worker + 1) * self.WIDTH):
            self._words[cell] = 0


def _word(moment: float) -> int:
    return 1 + int(moment * _THOUSAND)
