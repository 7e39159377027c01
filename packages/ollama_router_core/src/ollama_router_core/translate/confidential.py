"""Values with users' content that is not shown in `repr`."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Confidential"]


class Confidential(Struct, frozen=True):
    """An immutable value whose `repr` is only its type, so that no content reaches a log through a traceback."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
