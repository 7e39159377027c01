"""The base of all views."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

__all__ = ["GIB", "View"]

GIB = 1024**3


class View(BaseModel):
    """The representation of a resource. Sizes are bytes, ages and durations seconds, times seconds since 1970 (UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @classmethod
    def from_object(cls, found: object, **others: Any) -> Self:
        """Build the view from the attributes of `found` with the names of its fields; `others` take precedence.

        Raises:
            AttributeError: `found` lacks a field that `others` does not have.
        """
        return cls(**{name: getattr(found, name) for name in cls.model_fields if name not in others}, **others)
