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
    """One finding: `subject` is what was checked, `reason` the result, `fix` the command to run, if any."""

    subject: str
    severity: Severity
    reason: str
    fix: str | None = None

    @classmethod
    def ok(cls, subject: str, reason: str) -> Self:
        """Return a finding without a problem."""
        return cls(subject=subject, severity="ok", reason=reason)

    @classmethod
    def warning(cls, subject: str, reason: str, fix: str | None = None) -> Self:
        """Return a problem that does not stop requests."""
        return cls(subject=subject, severity="warning", reason=reason, fix=fix)

    @classmethod
    def error(cls, subject: str, reason: str, fix: str | None = None) -> Self:
        """Return a problem that prevents requests from being answered."""
        return cls(subject=subject, severity="error", reason=reason, fix=fix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A config, its file (None if unknown), and its environment; the URL may contain a password."""

    config: Config
    path: Path | None
    source: str
    database_url: str = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)
