"""The search bar: an id or a name redirects to its page, other text to the list of requests that contain it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import quote, urlencode

import falcon
from falcon.asgi import Request, Response

from ollama_router_core.errors import RequestError
from ollama_router_server.admin.json_bodies import user_of
from ollama_router_server.admin.overview_resource import find_model
from ollama_router_server.admin.token_access import ADMINS, EVERYBODY, READERS
from ollama_router_server.console.page import Page
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import UnknownGroup, UnknownUser

__all__ = ["FindResource"]

_ID: Final = re.compile(r"[0-9a-f]{28}")
_LONGEST: Final = 200
_ALSO: Final = {"start": "", "mine": "", "playground": "play"}


class FindResource:
    """`GET /console/find?q=`: redirects to a page that the requesting user may see."""

    roles = EVERYBODY

    def __init__(self, services: Services, pages: Mapping[str, Page]) -> None:
        self._services = services
        self._pages = pages

    async def on_get(self, request: Request, _response: Response) -> None:
        """Redirect to the page found."""
        text = (request.get_param("q") or "").strip()[:_LONGEST]
        raise falcon.HTTPSeeOther(await self._path(text, request) or "./")

    async def _path(self, text: str, request: Request) -> str:
        """Find the path below `/console/` for a text."""
        user = user_of(request)
        if _ID.fullmatch(text):
            return f"requests/{text}"
        name = text.lower().replace(" ", "")
        name = _ALSO.get(name, name)
        page = None if "{" in name else self._pages.get(name)
        if page is not None and user.role in page.roles:
            return name
        if user.role in READERS and text in self._services.config.servers:
            return f"servers/{quote(text, safe='')}"
        if user.role in READERS and self._is_model(text, request):
            return f"models/{quote(text, safe='')}"
        if user.role in ADMINS and (found := await self._among_people(text)) is not None:
            return found
        return f"requests?{urlencode({'text': text})}"

    def _is_model(self, text: str, request: Request) -> bool:
        try:
            find_model(self._services, request, text)
        except (falcon.HTTPNotFound, RequestError):
            return False
        return True

    async def _among_people(self, text: str) -> str | None:
        """Find the page of the user of this name, else of the group; None if neither exists."""
        with suppress(UnknownUser):
            await self._services.users.show(text)
            return f"people/{quote(text, safe='')}"
        with suppress(UnknownGroup):
            await self._services.groups.show(text)
            return f"groups/{quote(text, safe='')}"
        return None
