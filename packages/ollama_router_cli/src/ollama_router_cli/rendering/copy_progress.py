"""Progress of a database copy: one line that is overwritten on a terminal, else one line per table."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

__all__ = ["TableProgress"]


class TableProgress:
    """Show the number of copied rows per table; a context manager, which ends the line."""

    def __init__(self) -> None:
        self._over = sys.stderr.isatty()
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __call__(self, table: str, done: int, total: int) -> None:
        """Show that `done` of `total` rows of a table are copied."""
        text = f"{table}: {done:,} of {total:,} rows"
        if self._over:
            sys.stderr.write(f"\r{text:<60}")
            self._open = True
        elif done >= total:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._open:
            sys.stderr.write("\n")
