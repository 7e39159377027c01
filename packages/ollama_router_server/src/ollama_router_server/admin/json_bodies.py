"""JSON bodies of the admin routes, and the requesting user."""

from __future__ import annotations

from typing import Any, TypeVar

from falcon import HTTPError
from falcon.asgi import Request, Response
from pydantic import BaseModel, ValidationError

from ollama_router_core.api.retry_advice import retry_fields
from ollama_router_core.errors import BodyTooLarge, InvalidBody, RouterError
from ollama_router_server.storage.audit_log import Actor
from ollama_router_server.storage.identities import User

__all__ = [
    "actor_of",
    "answer",
    "answer_error",
    "answer_http_error",
    "http_error_code",
    "read_body",
    "user_of",
]

_LARGEST = 64 * 1024
_FALCONS_CODES = {404: "unknown_route", 405: "method_not_allowed"}

Body = TypeVar("Body", bound=BaseModel)


def actor_of(request: Request) -> Actor:
    """Return the requesting user as an author for the audit trail; the authentication middleware stores it."""
    actor: Actor = request.context.actor
    return actor


def user_of(request: Request) -> User:
    """Return the requesting user; the authentication middleware stores it."""
    user: User = request.context.user
    return user


async def read_body(request: Request, kind: type[Body]) -> Body:
    """Read and validate the request's body.

    Raises:
        BodyTooLarge: over 64 KiB.
        InvalidBody: the body is incomplete, not JSON, or does not match; the message says where.
    """
    raw = await request.bounded_stream.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise BodyTooLarge(f"the body is larger than {_LARGEST} bytes")
    if request.content_length is not None and len(raw) != request.content_length:
        raise InvalidBody("the body is not complete")  # Falcon treats a disconnect as the end of the body
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidBody(_first_problem(error)) from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    location = ".".join(map(str, first["loc"]))
    return f"{location or 'body'}: {first['msg']}"


def answer(response: Response, body: BaseModel, *, status: int = 200) -> None:
    """Set the response's body."""
    response.status = status
    response.data = body.model_dump_json().encode()
    response.content_type = "application/json"
    response.set_header("cache-control", "no-store")


async def answer_error(_request: Request, response: Response, error: RouterError, _params: Any, **_: Any) -> None:
    """Handle the router's errors for Falcon."""
    _write(response, error.status_hint, error.message, error.code)
    for name, value in retry_fields(error, sent=False):
        response.set_header(name.decode(), value.decode())
    if error.status_hint == 401:
        response.set_header("WWW-Authenticate", 'Bearer realm="ollama-router"')


async def answer_http_error(_request: Request, response: Response, error: HTTPError, _params: Any, **_: Any) -> None:
    """Handle Falcon's errors."""
    status = int(str(error.status)[:3])
    for name, value in dict(error.headers or {}).items():
        response.set_header(name, value)
    text = error.description or error.title or "the request cannot be served"
    _write(response, status, text, http_error_code(status))
    response.set_header("x-should-retry", "false")


def http_error_code(status: int) -> str:
    """Return the error code of a Falcon error."""
    return _FALCONS_CODES.get(status, "invalid_request")


def _write(response: Response, status: int, text: str, code: str) -> None:
    response.status = status
    response.media = {"error": text, "code": code}
    response.set_header("x-router-error", code)
