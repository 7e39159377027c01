"""`GET /router/errors`: what each error code means, for whoever may ask at all."""

from __future__ import annotations

from falcon.asgi import Request, Response

from ollama_router_server.admin.json_bodies import answer
from ollama_router_server.admin.token_access import EVERYBODY
from ollama_router_server.admin.views.error_reference import errors_view

__all__ = ["ErrorsResource"]


class ErrorsResource:
    """`GET /router/errors`."""

    roles = EVERYBODY

    async def on_get(self, _request: Request, response: Response) -> None:
        """Answer all codes."""
        answer(response, errors_view())
