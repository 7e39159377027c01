"""Where people reach this router, and links that sign somebody in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the command line makes links, too, and needs none of these
    from falcon.asgi import Request

    from ollama_router_server.services import Services

__all__ = ["INVITATION_SECONDS", "base_url", "link_of"]

INVITATION_SECONDS: Final = 72 * 3_600.0


def base_url(services: Services, request: Request) -> str:
    """Return the address that people use, without a trailing slash: the config's, else that of the request."""
    host = request.get_header("host") or ""
    return (services.config.console.public_url or f"{request.scheme}://{host}").rstrip("/")


def link_of(base: str, secret: str) -> str:
    """Build a link that opens the console, signed in; no server sees its secret, as it is the fragment."""
    return f"{base}/console/#claim={secret}"
