"""What every table of a config file has in common."""

from __future__ import annotations

from typing import Any, get_origin

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["Section"]


class Section(BaseModel):
    """Unknown keys are errors, values are taken as they are, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, values: Any) -> Any:
        """A key with nothing but comments under it is null in YAML; where a table is expected it means none."""
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
