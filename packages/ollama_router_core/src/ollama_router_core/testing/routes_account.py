"""The routes of the server owner's ollama.com account; this server is not signed in."""

from __future__ import annotations

from ollama_router_core.testing.error_replies import ApiError
from ollama_router_core.testing.exchange import Exchange
from ollama_router_core.testing.shared_state import ServerState

__all__ = ["cloud_only", "me", "recommendations", "signed_out"]


async def me(server: ServerState, exchange: Exchange) -> None:
    """/api/me."""
    await exchange.body()
    raise server.engine.cloud_error()


async def signed_out(_: ServerState, exchange: Exchange) -> None:
    """/api/signout and /api/user/keys/:key."""
    await exchange.body()
    await exchange.json(200, None)


async def cloud_only(server: ServerState, exchange: Exchange) -> None:
    """/api/experimental/web_search and web_fetch: proxied with the server's own key, which this server lacks."""
    if not (await exchange.body()).strip():
        raise ApiError(400, "missing request body")
    what = exchange.path.rpartition("/")[2].replace("_", " ")
    raise server.engine.cloud_error(f"{what} is unavailable")


async def recommendations(_: ServerState, exchange: Exchange) -> None:
    """/api/experimental/model-recommendations."""
    await exchange.json(200, {"recommendations": []})
