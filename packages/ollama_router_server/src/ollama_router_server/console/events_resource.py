"""`GET /console/events`: which live parts of a page have changed, as a stream for the console's script."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Final

import falcon
from falcon.asgi import Request, Response, SSEvent

from ollama_router_core.errors import Forbidden
from ollama_router_server.admin.token_access import EVERYBODY, check_role
from ollama_router_server.console.page import Page
from ollama_router_server.console.sessions import Sessions
from ollama_router_server.console.watchers import START, Watcher, Watchers
from ollama_router_server.storage.identities import User

__all__ = ["EventsResource"]

_MOST_TOPICS: Final = 8


class EventsResource:
    """Each event is a list of names, empty as a heartbeat; the event `end` follows the end of the session.

    The script does not use EventSource, which cannot send `X-Console`: a page on another port could read it, too.
    """

    roles = EVERYBODY

    def __init__(self, watchers: Watchers, sessions: Sessions, pages: Mapping[str, Page]) -> None:
        self._watchers = watchers
        self._sessions = sessions
        self._pages = pages

    async def on_get(self, request: Request, response: Response) -> None:
        """Stream the names of changed pages while the session and the tab are open."""
        if request.get_header("x-console") != "1":
            raise Forbidden("only the console's own pages may watch it")
        user: User = request.context.user
        topics = tuple(dict.fromkeys(request.get_param_as_list("topics", required=True)))
        for topic in topics[: _MOST_TOPICS + 1]:
            self._check(topic, user)
        if len(topics) > _MOST_TOPICS:
            raise falcon.HTTPBadRequest(title="topics", description=f"send at most {_MOST_TOPICS} topics")
        session = self._sessions.key(request)
        watcher = await self._watchers.join(session, user, topics, partial(self._is_open, request))
        response.set_header("x-accel-buffering", "no")  # nginx would buffer events
        response.sse = self._events(watcher)

    def _check(self, topic: str, user: User) -> None:
        kind, pages = topic.partition("/")[0], self._pages
        named = {START: "", "": START}.get(topic, topic)  # the address of Start has no name
        page = pages.get(named) or pages.get(f"{kind}/{{name}}") or pages.get(f"{kind}/{{id}}")
        if page is None or not page.live:
            raise falcon.HTTPBadRequest(title="topics", description="a topic names no live page")
        check_role(user, page.roles)

    async def _is_open(self, request: Request) -> bool:
        return await self._sessions.find(request) is not None

    async def _events(self, watcher: Watcher) -> AsyncIterator[SSEvent]:
        async for event in self._watchers.follow(watcher):
            yield SSEvent(event="end", data=b"[]") if event is None else SSEvent(data=json.dumps(event).encode())
