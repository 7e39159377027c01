"""Values that hold what people write, and show nothing of it."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Confidential"]


class Confidential(Struct, frozen=True):
    """An immutable value whose repr is its type alone: prompts and answers reach no log by way of a traceback."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
