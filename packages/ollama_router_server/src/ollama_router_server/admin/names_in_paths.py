"""Names in the router's own paths, which may hold slashes: `/router/servers/rack%2Fa/drain` is about `rack/a`."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from falcon.asgi import Request, Response

__all__ = ["NamesInPaths", "with_names_whole"]


def with_names_whole(scope: Any) -> Any:
    """Keep the slashes of names encoded in a scope's path, and per cents with them, so that each can be told apart.

    A route is found by the steps of a path as they were sent: a slash that was encoded never begins another.
    """
    sent = (scope.get("raw_path") or b"").decode("latin-1")
    if "%2f" not in sent.lower() and "%25" not in sent:
        return scope
    steps = (unquote(step).replace("%", "%25").replace("/", "%2F") for step in sent.split("/"))
    return {**scope, "path": "/".join(steps)}


class NamesInPaths:
    """Gives resources names as they are."""

    async def process_resource(
        self, _request: Request, _response: Response, _resource: Any, params: dict[str, Any]
    ) -> None:
        """Decode what `with_names_whole` has left encoded."""
        params.update({name: unquote(value) for name, value in params.items() if isinstance(value, str)})
