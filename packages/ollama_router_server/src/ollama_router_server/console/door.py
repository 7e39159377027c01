"""Sign-in and sign-out, and the pages for visitors who are not signed in."""

from __future__ import annotations

from typing import Any

import falcon
from falcon.asgi import Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ollama_router_core.errors import MissingCredential, RouterError
from ollama_router_server.admin.json_bodies import answer_error, answer_http_error, http_error_code, read_body
from ollama_router_server.console.guard import ROOT, is_page
from ollama_router_server.console.rendering import Renderer
from ollama_router_server.console.sessions import Sessions

__all__ = ["ClaimResource", "FrontDoor", "Refusals", "SessionResource"]


class _Credential(BaseModel):
    """The credentials of a sign-in."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: str = Field(min_length=1, max_length=200, repr=False)


class _Link(BaseModel):
    """The secret of a sign-in link."""

    model_config = ConfigDict(extra="forbid", strict=True)

    claim: str = Field(min_length=1, max_length=200, repr=False)


class SessionResource:
    """`POST /console/session` signs in with a token, `DELETE` signs out."""

    roles = None

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def on_post(self, request: Request, response: Response) -> None:
        """Open a session; the response sets its cookie."""
        body = await read_body(request, _Credential)
        user = await self._sessions.sign_in(request, response, body.token)
        response.media = {"user": user.name, "role": user.role}

    async def on_delete(self, request: Request, response: Response) -> None:
        """End the session."""
        await self._sessions.sign_out(request, response)
        response.media = {"signed_out": True}


class ClaimResource:
    """`POST /console/claim` signs in with a single-use link."""

    roles = None

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def on_post(self, request: Request, response: Response) -> None:
        """Open a session; the response sets its cookie, and shows a first token, if one was created, only now."""
        body = await read_body(request, _Link)
        user, token = await self._sessions.claim(request, response, body.claim)
        first = {} if token is None else {"token": token.reveal()}
        response.media = {"user": user.name, "role": user.role, **first}


class FrontDoor:
    """`GET /`: the router's greeting for programs, a redirect to the console for browsers."""

    async def on_get(self, _request: Request, _response: Response) -> None:
        """Redirect to the console."""
        raise falcon.HTTPSeeOther("console/")


class Refusals:
    """Render errors as pages for a browser, as JSON everywhere else."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    async def router_error(
        self, request: Request, response: Response, error: RouterError, params: Any, **_: Any
    ) -> None:
        """Handle one of the router's errors."""
        if not _wants_page(request):
            await answer_error(request, response, error, params)
            return
        if isinstance(error, MissingCredential):
            self._renderer.answer(request, response, "sign_in.html", title="Sign in")
            response.status = 401
            return
        self._page(request, response, error.status_hint, error.message, error.code)

    async def http_error(
        self, request: Request, response: Response, error: falcon.HTTPError, params: Any, **_: Any
    ) -> None:
        """Handle one of Falcon's errors."""
        if not _wants_page(request):
            await answer_http_error(request, response, error, params)
            return
        status = int(str(error.status)[:3])
        self._page(request, response, status, error.description or str(error.title), http_error_code(status))

    def _page(self, request: Request, response: Response, status: int, text: str, code: str) -> None:
        user = getattr(request.context, "user", None)
        values = {"title": "Not to be shown", "text": text, "code": code, "status": status, "user": user}
        values["query"] = request.query_string
        self._renderer.answer(request, response, "error.html", **values)
        response.status = status


def _wants_page(request: Request) -> bool:
    return request.path.startswith(f"{ROOT}/") and is_page(request)
