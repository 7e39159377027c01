"""What each worker says of itself, in memory that all share: its last beat, since when its requests wait, figures."""

from __future__ import annotations

from typing import Final

from ollama_router_core.coordination import Figure

__all__ = ["WorkerCells"]

_BEAT, _SINCE, _FIGURES = 0, 1, 2
_FIGURE_CELLS: Final = {figure: cell for cell, figure in enumerate(Figure, _FIGURES)}
_THOUSAND: Final = 1000
"""Moments are kept as whole milliseconds, and one more, as 0 is for none."""


class WorkerCells:
    """`WIDTH` numbers of each worker, which it alone writes. Moments are seconds of the machine's monotonic clock."""

    WIDTH: Final = _FIGURES + len(Figure)

    __slots__ = ("_words",)

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def beat(self, worker: int, now: float) -> None:
        """Give a sign of life."""
        self._words[worker * self.WIDTH + _BEAT] = _word(now)

    def last_beat(self, worker: int) -> float | None:
        """Return when a worker last beat; None before it first did."""
        word = self._words[worker * self.WIDTH + _BEAT]
        return (word - 1) / _THOUSAND if word else None

    def wait(self, worker: int, since: float | None) -> None:
        """Tell when the longest waiting request of a worker arrived."""
        self._words[worker * self.WIDTH + _SINCE] = 0 if since is None else _word(since)

    def waits_since(self, worker: int) -> int:
        """Return that moment as a number to compare; 0 where none waits."""
        return int(self._words[worker * self.WIDTH + _SINCE])

    def show(self, worker: int, figure: Figure, value: int) -> None:
        """Set a worker's figure."""
        self._words[worker * self.WIDTH + _FIGURE_CELLS[figure]] = value

    def total(self, figure: Figure) -> int:
        """Return the sum of a figure over all workers."""
        return sum(self._words[_FIGURE_CELLS[figure] :: self.WIDTH].tolist())

    def clear(self, worker: int) -> None:
        """Forget what a worker said that is gone."""
        for cell in range(worker * self.WIDTH, (worker + 1) * self.WIDTH):
            self._words[cell] = 0


def _word(moment: float) -> int:
    return 1 + int(moment * _THOUSAND)
