"""The playground's access to models: authenticated by a session instead of a token, then relayed as usual."""

from __future__ import annotations

from typing import Any, Final

import falcon
from falcon.asgi import Request, Response

from ollama_router_core.errors import MissingCredential, RouterError
from ollama_router_core.routing.explanation import Question, explain
from ollama_router_server.admin.views.models import ModelView
from ollama_router_server.console.guard import PAGE_HEADERS, ConsoleAccess
from ollama_router_server.console.wording import duration
from ollama_router_server.relay.bodies import Receive, Send
from ollama_router_server.relay.relay import Relay
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import Role, User

__all__ = ["PLAYERS", "PLAY_PATH", "PlayDoor", "PlayResource", "expected_start"]

PLAYERS: Final = frozenset[Role]({"admin", "user"})
PLAY_PATH: Final = "/console/play/api/chat"
_API_PATH: Final = "/api/chat"
_HEARTBEAT: Final = 1.0
"""Seconds between heartbeats; the first tells the page the request's id, with which it polls the progress."""
_LEFT_OUT: Final = frozenset(
    {b"authorization", b"cookie", b"origin", b"proxy-authorization", b"referer", b"x-api-key", b"x-console"}
)
"""Fields that carry other credentials, or the origin of the page."""
_FIELDS: Final = [(name.encode(), value.encode()) for name, value in (*PAGE_HEADERS, ("cache-control", "no-store"))]


class PlayResource:
    """`POST /console/play/api/chat` in Falcon, which only rejects: admitted requests go to the relay."""

    roles = PLAYERS

    async def on_post(self, _request: Request, _response: Response) -> None:
        """Reject a user whose session has just ended."""
        raise MissingCredential("sign in again")


class PlayDoor:
    """Passes a chat of the console's page to the relay, with the rights and limits of the session's user.

    It bypasses Falcon's response, which would continue a stream after the page has disconnected.
    """

    def __init__(self, access: ConsoleAccess, falcon_app: Any) -> None:
        self._access = access
        self._falcon = falcon_app

    async def serve(self, relay: Relay, scope: Any, receive: Receive, send: Send) -> None:
        """Serve a request to `PLAY_PATH`."""
        user = await self._admitted(scope, receive)
        if user is None:
            await self._falcon(scope, receive, send)  # it answers with the reason, as for every other path
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_FIELDS]}
            await send(message)

        await relay(_for_relay(scope), receive, guarded, user=user, heartbeat=_HEARTBEAT)

    async def _admitted(self, scope: Any, receive: Receive) -> User | None:
        request = Request(scope, receive)
        try:
            await self._access.process_request(request, Response())
            await self._access.process_resource(request, Response(), PlayResource, {})
        except (RouterError, falcon.HTTPError):
            return None
        user: User = request.context.user
        return user if scope["method"] == "POST" else None


def expected_start(services: Services, model: ModelView) -> str:
    """Return when a response of this model would start, in words, by the servers' current state."""
    found = explain(
        Question(model=model.name), services.admission.view.traffic(), services.config, now=services.clock.monotonic()
    )
    chosen = next((one for one in found["candidates"] if one["verdict"] == "chosen"), None)
    state = "is in memory" if model.loaded_on else "has to be loaded"
    if chosen is None:
        return f"{state}; no server is free for it at this moment"
    expected = chosen["expected"]
    return (
        state
        if expected is None
        else f"{state}; an answer begins after about {duration(expected['ready_seconds'] * 1000)}"
    )


def _for_relay(scope: Any) -> Any:
    fields = [(name, value) for name, value in scope["headers"] if name not in _LEFT_OUT and name[:4] != b"sec-"]
    return {**scope, "path": _API_PATH, "raw_path": _API_PATH.encode(), "query_string": b"", "headers": fields}
