"""Settings to paste into each client, with this router's address."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml

from ollama_router_server.admin.view import View

__all__ = ["ClientView", "client_views"]


class ClientView(View):
    """The settings of one client in some language; TOKEN and MODEL are placeholders."""

    name: str
    where: str
    language: str
    text: str


def client_views(base: str, model: str | None = None) -> list[ClientView]:
    """Return the settings of all clients; `base` is the router's address without a trailing slash."""
    named = "MODEL" if model is None else model
    return [
        ClientView(**{**known, "text": known["text"].replace("{base}", base).replace("MODEL", named)})
        for known in _known()
    ]


@cache
def _known() -> tuple[Mapping[str, str], ...]:
    text = (files("ollama_router_server.admin") / "clients.yml").read_text(encoding="utf-8")
    return tuple({**one, "text": one["text"].rstrip("\n")} for one in yaml.safe_load(text))
