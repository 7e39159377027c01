"""The base of every table of a config file."""

from __future__ import annotations

from typing import Any, get_origin

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["Section"]


class Section(BaseModel):
    """A table: unknown keys are errors, types are strict, and instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, values: Any) -> Any:
        """Read null as an empty table: a key with only comments below it is null in YAML."""
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if value is not None or not cls._is_table(key)}

    @classmethod
    def _is_table(cls, key: str) -> bool:
        for name, field in cls.model_fields.items():
            if key in (name, field.alias):
                kind = get_origin(field.annotation) or field.annotation
                return isinstance(kind, type) and issubclass(kind, dict | tuple | Section)
        return False
