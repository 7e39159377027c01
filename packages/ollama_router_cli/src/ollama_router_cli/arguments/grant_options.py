"""Options for the grants of a user or group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import typer

from ollama_router_cli.arguments.options import in_place_of, option
from ollama_router_cli.arguments.times import parse_moment
from ollama_router_core.access.grants import SpeaksFor
from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.reach import Reach
from ollama_router_server.system import SystemClock

__all__ = ["takes_grants"]

INHERIT = "inherit"
_NOTHING = "none"
_ANYTHING = "any"

_TRUTHS = frozenset({"cloud", "unload", "batch"})
_EVERYTHING = {"kinds": tuple(map(str, Kind)), "reach": tuple(map(str, Reach)), "networks": ("0.0.0.0/0", "::/0")}

_LISTS = "comma-separated or repeated; any, none, or inherit to use the group's"
_NUMBER = "a number, or inherit to use the group's"

# Each field of `Grants` with its option's name, type, placeholder and help.
_OPTIONS: tuple[tuple[str, str, Any, str, str], ...] = (
    ("models", "models", list[str], "PATTERN", f"Models, such as llama3* or qwen3:8b; {_LISTS}."),
    ("hosts", "hosts", list[str], "PATTERN", f"External hosts (they cost money); {_LISTS}."),
    ("cloud", "cloud", str, "YES", "Models of ollama.com: yes, no or inherit."),
    (
        "reach",
        "reach",
        list[str],
        "KIND",
        f"What requests may use at external hosts: models, tools, stored, urls; {_LISTS}.",
    ),
    ("unload", "unload", str, "YES", "Unload models (keep_alive 0): yes, no or inherit."),
    ("kinds", "kinds", list[str], "KIND", f"Kinds of route, such as infer and read; {_LISTS}."),
    (
        "networks",
        "networks",
        list[str],
        "CIDR",
        f"Networks that clients may connect from, such as 10.0.0.0/8; {_LISTS}.",
    ),
    ("expires_at", "expires", str, "DATE", "End of access: 2026-12-31 (local time), 30d from now, or inherit."),
    ("batch", "batch", str, "YES", "Batch priority, served after all other requests: yes, no or inherit."),
    ("max_wait", "max_wait", str, "N", f"Seconds that a request may wait for a server: {_NUMBER}."),
    (
        "speaks_for",
        "speaks_for",
        str,
        "WHOM",
        "Users on whose behalf requests may be made: any, group (the user's own) or inherit.",
    ),
    ("requests_per_minute", "rpm", str, "N", f"Requests per minute: {_NUMBER}."),
    ("concurrent_requests", "concurrent", str, "N", f"Concurrent requests: {_NUMBER}."),
    ("tokens_per_minute", "tpm", str, "N", f"Tokens per minute, in and out: {_NUMBER}."),
    ("tokens_per_day", "tokens_per_day", str, "N", f"Tokens per day (UTC), in and out: {_NUMBER}."),
    ("tokens_per_month", "tokens_per_month", str, "N", f"Tokens per month (UTC), in and out: {_NUMBER}."),
)


def _changes(typed: Mapping[str, Any]) -> dict[str, Any]:
    now = SystemClock().wall()
    values = {field: typed[name] for field, name, *_ in _OPTIONS}
    return {field: _read(field, value, now) for field, value in values.items() if value is not None}


takes_grants = in_place_of(
    "grants", [option(name, kind | None, text, metavar=metavar) for _, name, kind, metavar, text in _OPTIONS], _changes
)
"""Adds an option per field of `Grants` to a command; its parameter `grants` gets the given ones as JSON values."""


def _read(name: str, value: Any, now: float) -> Any:
    if isinstance(value, str):
        return None if value == INHERIT else _read_text(name, value, now)
    return _list(name, [part.strip() for text in value for part in text.split(",") if part.strip()])


def _read_text(name: str, text: str, now: float) -> bool | float | str:
    if name in _TRUTHS:
        return _yes(name, text)
    if name == "speaks_for":
        return _whom(text)
    return parse_moment(text, now=now, ahead=True) if name == "expires_at" else _number(text)


def _list(name: str, entries: list[str]) -> list[str] | None:
    words = {INHERIT, _NOTHING, _ANYTHING} & set(entries)
    if words and len(entries) > 1:
        raise typer.BadParameter(f"{words.pop()} cannot be combined with other entries")
    if entries == [INHERIT]:
        return None
    if entries == [_NOTHING]:
        return []
    return list(_EVERYTHING.get(name, ("*",))) if entries == [_ANYTHING] else entries


def _yes(name: str, text: str) -> bool:
    if text not in {"yes", "no"}:
        raise typer.BadParameter(f"--{name} takes yes, no or inherit, not {text!r}")
    return text == "yes"


def _whom(text: str) -> str:
    if text not in get_args(SpeaksFor):
        raise typer.BadParameter(f"--speaks-for takes any, group or inherit, not {text!r}")
    return text


def _number(text: str) -> int:
    digits = text.replace("_", "").replace(",", "")
    if not (digits.isascii() and digits.isdigit()):
        raise typer.BadParameter(f"expected a whole number or inherit, got {text!r}")
    return int(digits)
