"""Names in the router's own paths that may contain slashes: `/router/servers/rack%2Fa/drain` names `rack/a`."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from falcon.asgi import Request, Response

__all__ = ["NamesInPaths", "with_names_whole"]


def with_names_whole(scope: Any) -> Any:
    """Return the scope with encoded slashes and per cents in its path kept, so that names stay whole.

    Routing uses the segments as they were sent: an encoded slash never starts another segment.
    """
    sent = (scope.get("raw_path") or b"").decode("latin-1")
    if "%2f" not in sent.lower() and "%25" not in sent:
        return scope
    steps = (unquote(step).replace("%", "%25").replace("/", "%2F") for step in sent.split("/"))
    return {**scope, "path": "/".join(steps)}


class NamesInPaths:
    """Pass decoded names to resources."""

    async def process_resource(
        self, _request: Request, _response: Response, _resource: Any, params: dict[str, Any]
    ) -> None:
        """Decode the characters that `with_names_whole` kept encoded."""
        params.update({name: unquote(value) for name, value in params.items() if isinstance(value, str)})
