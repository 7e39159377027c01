"""What a look at an installation finds, each with its reason and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Severity"]

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: `subject` is what, `reason` what was found, `mend` what to type, if anything."""

    subject: str
    severity: Severity
    reason: str
    mend: str | None = None
