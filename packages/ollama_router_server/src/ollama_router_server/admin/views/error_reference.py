"""Every error code: what happened, and what to do. The reference page has the same source."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from ollama_router_server.admin.view import View

__all__ = ["ErrorEntryView", "ErrorSectionView", "ErrorsView", "errors_view", "known_codes"]


class ErrorEntryView(View):
    """One error code. `status` is the HTTP status, null if clients never see it; code is marked as in Markdown."""

    code: str
    status: int | None
    happened: str
    advice: str


class ErrorSectionView(View):
    """A group of related codes."""

    title: str
    errors: list[ErrorEntryView]


class ErrorsView(View):
    """All codes."""

    sections: list[ErrorSectionView]


@cache
def errors_view() -> ErrorsView:
    """Return all codes from the package's file; cached."""
    text = (files("ollama_router_server.admin") / "errors.yml").read_text(encoding="utf-8")
    return ErrorsView(sections=yaml.safe_load(text))


@cache
def known_codes() -> frozenset[str]:
    """Return the documented codes."""
    return frozenset(one.code for section in errors_view().sections for one in section.errors)
