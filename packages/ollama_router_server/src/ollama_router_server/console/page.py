"""One page over HTTP: a template and the function that builds its values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from falcon.asgi import Request, Response

from ollama_router_server.console.rendering import Rendered, Renderer
from ollama_router_server.console.shared_parts import SharedParts
from ollama_router_server.storage.identities import Role, User

__all__ = ["Page", "Values"]

Values = dict[str, Any]
Builder = Callable[..., Awaitable[Values]]


class Page:
    """One page. Its script requests the live part, which tabs of one user share where possible.

    `build_part` builds that part if the page shows more than it.
    """

    def __init__(
        self,
        renderer: Renderer,
        name: str,
        title: str,
        build: Builder,
        *,
        roles: frozenset[Role],
        parts: SharedParts | None = None,
        build_part: Builder | None = None,
    ) -> None:
        self.roles = roles
        self._renderer = renderer
        self._name = name
        self._title = title
        self._build = build
        self._build_part = build_part or build
        self._parts = parts

    @property
    def live(self) -> bool:
        """Whether the page has a live part."""
        return self._parts is not None

    async def on_get(self, request: Request, response: Response, **params: str) -> None:
        """Answer the page, or its live part to the console's script."""
        if self._parts is None or request.get_header("x-console") is None:
            self._renderer.send(
                request, response, await self._filled(request, f"{self._name}.html", self._build, params)
            )
            return
        user: User = request.context.user
        key = request.relative_uri, user.id, user.role
        part, begun = self._parts.find(key), self._parts.moment
        if part is None:
            part = await self._filled(request, f"parts/{self._name}.html", self._build_part, params)
            self._parts.keep(key, part, begun=begun)
        self._renderer.send(request, response, part)

    async def _filled(self, request: Request, template: str, build: Builder, params: dict[str, str]) -> Rendered:
        user: User = request.context.user
        values = {"title": self._title, "user": user, **await build(request, **params)}
        return self._renderer.rendered(template, request.path, page=self._name, live=self.live, **values)
