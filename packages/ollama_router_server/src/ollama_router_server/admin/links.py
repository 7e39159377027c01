"""The router's public address, and sign-in links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the command line also makes links, and needs neither
    from falcon.asgi import Request

    from ollama_router_server.services import Services

__all__ = ["INVITATION_SECONDS", "base_url", "link_of"]

INVITATION_SECONDS: Final = 72 * 3_600.0


def base_url(services: Services, request: Request) -> str:
    """Return the public address without a trailing slash: from the config, else from the request."""
    host = request.get_header("host") or ""
    return (services.config.console.public_url or f"{request.scheme}://{host}").rstrip("/")


def link_of(base: str, secret: str) -> str:
    """Build a link that signs in to the console; its secret is in the fragment, which browsers do not send."""
    return f"{base}/console/#claim={secret}"
