"""Deduplication of submissions: a repeated one receives the response of the first."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import falcon
from falcon.asgi import Request, Response
from msgspec import Struct

from ollama_router_server.console.sessions import Sessions

__all__ = ["KeptAnswers", "Repeats"]

_KEY_FIELD: Final = "idempotency-key"
_ACTIONS: Final = "/console/act/"
_KEPT_SECONDS: Final = 300.0
_MOST_KEYS: Final = 64
"""The most keys per session; the oldest are dropped first."""
_MOST_SESSIONS: Final = 256
_MOST_BYTES: Final = 16_384
"""Longer responses are not kept; no action sends one."""
_PATIENCE: Final = 20.0


class Answer(Struct, frozen=True):
    """A response as sent; it may contain a new token, so it has no repr."""

    status: str
    content_type: str
    body: bytes

    def __repr__(self) -> str:
        return "Answer(...)"


class KeptAnswers:
    """Responses by session and key; each future resolves once, to a response or to None if the action failed."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, OrderedDict[str, tuple[float, asyncio.Future[Answer | None]]]] = OrderedDict()

    def find(self, session: str, key: str, now: float) -> asyncio.Future[Answer | None] | None:
        """Find the first response to a key, which may be pending."""
        keys = self._sessions.get(session)
        at, found = (0.0, None) if keys is None else keys.get(key, (0.0, None))
        return found if now - at < _KEPT_SECONDS else None

    def begin(self, session: str, key: str, now: float) -> asyncio.Future[Answer | None]:
        """Reserve a place for the response to a key."""
        keys = self._sessions.setdefault(session, OrderedDict())
        self._sessions.move_to_end(session)
        settled: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        keys.pop(key, None)
        keys[key] = now, settled
        if len(keys) > _MOST_KEYS:
            keys.popitem(last=False)
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return settled


class Repeats:
    """Answers a repeated action, identified by its session's key, with the first response.

    Only successful responses are kept, for five minutes in the memory of one worker, since they may contain a token
    that is shown once.
    """

    def __init__(self, sessions: Sessions, now: Callable[[], float]) -> None:
        self._sessions = sessions
        self._now = now
        self._kept = KeptAnswers()

    async def process_resource(self, request: Request, response: Response, _resource: Any, _params: Any) -> None:
        """Send the kept response, if there is one; runs after the check of session and role.

        Raises:
            HTTPConflict: the first action is still running after `_PATIENCE` seconds.
        """
        key = _key_of(request)
        if key is None:
            return
        session = self._sessions.key(request)
        while (first := self._kept.find(session, key, self._now())) is not None:
            answer = await _settled(first)
            if answer is not None:
                _give(response, answer)
                return
            if self._kept.find(session, key, self._now()) is first:  # the first failed: run this one
                break
        request.context.settles = self._kept.begin(session, key, self._now())

    async def process_response(self, request: Request, response: Response, _resource: Any, succeeded: Any) -> None:
        """Keep the response of a successful action."""
        settles: asyncio.Future[Answer | None] | None = getattr(request.context, "settles", None)
        if settles is None or settles.done():
            return
        done = succeeded and str(response.status).startswith("2")
        body = (await response.render_body() or b"") if done else b""
        keeps = done and len(body) <= _MOST_BYTES
        kind = response.content_type or falcon.MEDIA_JSON
        settles.set_result(Answer(str(response.status), kind, body) if keeps else None)


def _key_of(request: Request) -> str | None:
    """Return the digest that identifies an action within its session; None if it is no action, or has no key."""
    key = request.get_header(_KEY_FIELD)
    if not key or request.method in {"GET", "HEAD"} or not request.path.startswith(_ACTIONS):
        return None
    return hashlib.sha256(f"{request.method} {request.path} {key}".encode("utf-8", "replace")).hexdigest()


async def _settled(first: asyncio.Future[Answer | None]) -> Answer | None:
    try:
        return await asyncio.wait_for(asyncio.shield(first), _PATIENCE)
    except TimeoutError:
        raise falcon.HTTPConflict(title="under way", description="the same action is already in progress") from None


def _give(response: Response, answer: Answer) -> None:
    response.status, response.content_type, response.data = answer.status, answer.content_type, answer.body
    response.complete = True
