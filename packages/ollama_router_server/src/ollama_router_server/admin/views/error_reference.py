"""Every error code: what happened, and what to do. The page of the reference is made of the same."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from ollama_router_server.admin.view import View

__all__ = ["ErrorEntryView", "ErrorSectionView", "ErrorsView", "errors_view", "known_codes"]


class ErrorEntryView(View):
    """One code. `status` is that of HTTP, null for what no client sees; marks of code are Markdown's."""

    code: str
    status: int | None
    happened: str
    advice: str


class ErrorSectionView(View):
    """Codes that belong together."""

    title: str
    errors: list[ErrorEntryView]


class ErrorsView(View):
    """All codes."""

    sections: list[ErrorSectionView]


@cache
def errors_view() -> ErrorsView:
    """All codes, as the package's file has them; read once."""
    text = (files("ollama_router_server.admin") / "errors.yml").read_text(encoding="utf-8")
    return ErrorsView(sections=yaml.safe_load(text))


@cache
def known_codes() -> frozenset[str]:
    """Return the codes that have an entry."""
    return frozenset(one.code for section in errors_view().sections for one in section.errors)
