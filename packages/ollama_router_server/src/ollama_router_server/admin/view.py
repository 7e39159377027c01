"""The base of all views."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

__all__ = ["GIB", "View"]

GIB = 1024**3


class View(BaseModel):
    """What is shown of one resource. Sizes are bytes, ages and durations seconds, moments seconds since 1970 (UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @classmethod
    def from_object(cls, found: object, **others: Any) -> Self:
        """Show what `found` has under the names of this view's fields, and `others` in the place of the rest.

        Raises:
            AttributeError: it has not all of the rest.
        """
        return cls(**{name: getattr(found, name) for name in cls.model_fields if name not in others}, **others)
