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
"""Keys that are kept for one session; the oldest go first."""
_MOST_SESSIONS: Final = 256
_MOST_BYTES: Final = 16_384
"""An answer that is longer is not kept: none of an action's is."""
_PATIENCE: Final = 20.0


class Answer(Struct, frozen=True):
    """A response as sent; it may contain a new token, so it has no repr."""

    status: str
    content_type: str
    body: bytes

    def __repr__(self) -> str:
        return "Answer(...)"


class KeptAnswers:
    """Answers by session and key, each settled once: with an answer, or None where nothing was done."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, OrderedDict[str, tuple[float, asyncio.Future[Answer | None]]]] = OrderedDict()

    def find(self, session: str, key: str, now: float) -> asyncio.Future[Answer | None] | None:
        """Find the first answer to this key, which may still be under way."""
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
    """Answers an action that carries a key which its session has sent before as it was answered then.

    Only what succeeded is kept, in the memory of one worker and for five minutes, since it may hold a token that is
    shown once.
    """

    def __init__(self, sessions: Sessions, now: Callable[[], float]) -> None:
        self._sessions = sessions
        self._now = now
        self._kept = KeptAnswers()

    async def process_resource(self, request: Request, response: Response, _resource: Any, _params: Any) -> None:
        """Give the answer that there is; runs once the session and its role are known to be in order.

        Raises:
            HTTPConflict: the first has not ended for a long time.
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
            if self._kept.find(session, key, self._now()) is first:  # nothing was done: this one may
                break
        request.context.settles = self._kept.begin(session, key, self._now())

    async def process_response(self, request: Request, response: Response, _resource: Any, succeeded: Any) -> None:
        """Keep the answer of what was done."""
        settles: asyncio.Future[Answer | None] | None = getattr(request.context, "settles", None)
        if settles is None or settles.done():
            return
        done = succeeded and str(response.status).startswith("2")
        body = (await response.render_body() or b"") if done else b""
        keeps = done and len(body) <= _MOST_BYTES
        kind = response.content_type or falcon.MEDIA_JSON
        settles.set_result(Answer(str(response.status), kind, body) if keeps else None)


def _key_of(request: Request) -> str | None:
    """Return what tells an action from others of its session; None where it is no action, or has no key."""
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
