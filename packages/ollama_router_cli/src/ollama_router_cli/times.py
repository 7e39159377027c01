"""Times as people type them: `30m`, `12h`, `7d`, `2026-11-23`, `2026-11-23T15:00`.

Belongs here: text to seconds. Does not belong here: seconds to text (`render`).
"""

from __future__ import annotations

import re
from datetime import datetime

from ollama_router_cli.console import CommandFailed

__all__ = ["parse_moment"]

_AGO = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_moment(text: str, *, now: float) -> float:
    """Seconds since 1970 of a moment: so long before `now`, or a date and time (local unless it has an offset).

    Raises:
        CommandFailed: the text is neither.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago:
        return now - int(ago[1]) * _SECONDS[ago[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        raise CommandFailed(f"expected a time such as 30m, 12h, 7d or 2026-01-31T15:00, got {text!r}") from None
