"""Options that say what a user or group may do, and how grants are shown.

Belongs here: turning typed texts into changes of grants, and grants into lines.
Does not belong here: what grants mean (`ollama_router_core.access`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ollama_router_cli.console import CommandFailed
from ollama_router_cli.render import format_count, format_time
from ollama_router_cli.times import parse_moment
from ollama_router_core.access import Grants
from ollama_router_core.endpoints import Kind

__all__ = [
    "CloudOption",
    "ConcurrentOption",
    "ExpiresOption",
    "HostsOption",
    "KindsOption",
    "ModelsOption",
    "NetworksOption",
    "RpmOption",
    "TokensPerDayOption",
    "TokensPerMonthOption",
    "describe_grants",
    "grant_changes",
]

INHERIT = "inherit"
_NOTHING = "none"
_ANYTHING = "any"

_EVERYTHING = {"kinds": tuple(map(str, Kind)), "networks": ("0.0.0.0/0", "::/0")}

_LISTS = "again or with commas; any, none, or inherit to leave it to the group"
_NUMBER = "a number, or inherit"

ModelsOption = Annotated[
    list[str] | None, typer.Option("--models", metavar="PATTERN", help=f"Models, as llama3* or qwen3:8b; {_LISTS}.")
]
HostsOption = Annotated[
    list[str] | None, typer.Option("--hosts", metavar="PATTERN", help=f"External hosts (they cost money); {_LISTS}.")
]
CloudOption = Annotated[
    str | None, typer.Option("--cloud", metavar="YES", help="Models of Ollama's cloud: yes, no or inherit.")
]
KindsOption = Annotated[
    list[str] | None, typer.Option("--kinds", metavar="KIND", help=f"Kinds of route, as infer and read; {_LISTS}.")
]
NetworksOption = Annotated[
    list[str] | None, typer.Option("--networks", metavar="CIDR", help=f"Client networks, as 10.0.0.0/8; {_LISTS}.")
]
ExpiresOption = Annotated[
    str | None,
    typer.Option("--expires", metavar="DATE", help="When access ends, as 2026-12-31 (local time), or inherit."),
]
RpmOption = Annotated[str | None, typer.Option("--rpm", metavar="N", help=f"Requests a minute: {_NUMBER}.")]
ConcurrentOption = Annotated[
    str | None, typer.Option("--concurrent", metavar="N", help=f"Requests at once: {_NUMBER}.")
]
TokensPerDayOption = Annotated[
    str | None, typer.Option("--tokens-per-day", metavar="N", help=f"Tokens a day (UTC), in and out: {_NUMBER}.")
]
TokensPerMonthOption = Annotated[
    str | None, typer.Option("--tokens-per-month", metavar="N", help=f"Tokens a month (UTC): {_NUMBER}.")
]


def grant_changes(typed: dict[str, Any], *, now: float) -> dict[str, Any]:
    """Changes of grants in JSON's types, from options by the names of `Grants`' fields; None was not typed.

    Raises:
        CommandFailed: a text is none of those an option takes.
    """
    return {name: _read(name, value, now) for name, value in typed.items() if value is not None}


def _read(name: str, value: Any, now: float) -> Any:
    if isinstance(value, str):
        return None if value == INHERIT else _read_text(name, value, now)
    return _list(name, [part.strip() for text in value for part in text.split(",") if part.strip()])


def _read_text(name: str, text: str, now: float) -> bool | float:
    if name == "cloud":
        return _yes(text)
    return parse_moment(text, now=now) if name == "expires_at" else _number(text)


def _list(name: str, entries: list[str]) -> list[str] | None:
    words = {INHERIT, _NOTHING, _ANYTHING} & set(entries)
    if words and len(entries) > 1:
        raise CommandFailed(f"{words.pop()} stands alone, without other entries")
    if entries == [INHERIT]:
        return None
    if entries == [_NOTHING]:
        return []
    return list(_EVERYTHING.get(name, ("*",))) if entries == [_ANYTHING] else entries


def _yes(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise CommandFailed(f"--cloud takes yes, no or inherit, not {text!r}")
    return text == "yes"


def _number(text: str) -> int:
    digits = text.replace("_", "").replace(",", "")
    if not (digits.isascii() and digits.isdigit()):
        raise CommandFailed(f"expected a whole number or inherit, got {text!r}")
    return int(digits)


def describe_grants(grants: Grants) -> list[tuple[str, str]]:
    """What grants say, for people; nothing for what they do not say."""
    lines = [
        ("models", _entries(grants.models)),
        ("external hosts", _entries(grants.hosts)),
        ("cloud", None if grants.cloud is None else ("yes" if grants.cloud else "no")),
        ("kinds", _entries(grants.kinds)),
        ("networks", _entries(grants.networks)),
        ("expires", format_time(grants.expires_at)),
        ("requests a minute", format_count(grants.requests_per_minute)),
        ("requests at once", format_count(grants.concurrent_requests)),
        ("tokens a day", format_count(grants.tokens_per_day)),
        ("tokens a month", format_count(grants.tokens_per_month)),
    ]
    return [(name, text) for name, text in lines if text is not None]


def _entries(entries: Sequence[str] | None) -> str | None:
    return None if entries is None else (", ".join(entries) or _NOTHING)
