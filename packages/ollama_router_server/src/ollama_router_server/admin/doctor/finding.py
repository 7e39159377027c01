"""A finding about an installation, with its reason and the command that fixes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from msgspec import Struct

from ollama_router_core.config.settings import Config

__all__ = ["Finding", "Installation", "Severity"]

Severity = Literal["ok", "warning", "error"]


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at: `subject` is what, `reason` what was found, `fix` what to type, if anything."""

    subject: str
    severity: Severity
    reason: str
    fix: str | None = None

    @classmethod
    def ok(cls, subject: str, reason: str) -> Self:
        """Tell of what is right."""
        return cls(subject=subject, severity="ok", reason=reason)

    @classmethod
    def warning(cls, subject: str, reason: str, fix: str | None = None) -> Self:
        """Tell of what is wrong, and of the router that goes on all the same."""
        return cls(subject=subject, severity="warning", reason=reason, fix=fix)

    @classmethod
    def error(cls, subject: str, reason: str, fix: str | None = None) -> Self:
        """Tell of what keeps requests from being answered."""
        return cls(subject=subject, severity="error", reason=reason, fix=fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A config, the file it came from (None if it is not known), and what it runs with; the URL may have a password."""

    config: Config
    path: Path | None
    source: str
    database_url: str = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)
