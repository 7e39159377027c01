"""Hosted tools, stored data and URLs in a request: refused for external hosts without a grant, removed for servers."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ollama_router_core.access.grants import may_reach, may_use_cloud
from ollama_router_core.api.endpoints import Endpoint
from ollama_router_core.api.model_names import is_cloud_name
from ollama_router_core.api.reach import Reach, hosted_kind, reaches
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.config.settings import ExternalHost
from ollama_router_core.errors import Forbidden
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.routing.selector import assigned_destination
from ollama_router_core.translate import codec_of

__all__ = ["check_reach", "without_hosted_tools"]

_WHY = {
    Reach.MODELS: "names models other than the one that was checked",
    Reach.TOOLS: "runs at the host, in the operator's account",
    Reach.STORED: "reads data stored at the host, whoever stored it",
    Reach.URLS: "is an address in a private network",
}


def check_reach(environment: Environment, context: RequestContext, request: ParsedRequest, host: ExternalHost) -> None:
    """Check what a request asks of an external host beyond a response of its model.

    A translated request has only members that the codecs carry over, of which only URLs reach anything.

    Raises:
        Forbidden: neither a grant nor the host's setting `reach` allows it; the text has the member's name.
    """
    user, document = context.user, request.document
    open_to_all = frozenset(map(Reach, host.reach))
    if user is None or document is None or open_to_all.union(user.grants.reach or ()) == set(Reach):
        return
    destination = environment.destinations[assigned_destination(request.route, environment.config) or ""]
    as_it_is = codec_of(destination.family).serves(request.endpoint, destination.traits)
    for kind, member in reaches(document):
        if (as_it_is or kind is Reach.URLS) and not may_reach(user.role, user.grants, open_to_all, kind):
            raise Forbidden(
                f"{member} {_WHY[kind]}; this user may not request that of {destination.name};"
                f" an administrator can allow it (users set --reach {kind}, or the host's setting `reach`)"
            )


def without_hosted_tools(environment: Environment, context: RequestContext, request: ParsedRequest) -> ParsedRequest:
    """Drop tools that an Ollama server cannot run, or may not run for this user; name them in the context.

    Clients such as Codex list `web_search` in every request. A tool that `tool_choice` requires stays, and the router
    or the server refuses it.
    """
    document = request.document
    if document is None or codec_of(request.endpoint.family).hosted_tools == "passed_on" or not document.get("tools"):
        return request
    if hosted_kind(document.get("tool_choice")) is not None:
        return request
    searches = _searches(environment, context, request.endpoint)
    tools = document.elements("tools")
    kinds = [hosted_kind(tool) for tool in document.get("tools")] if tools else []
    gone = {index: kind for index, kind in enumerate(kinds) if kind is not None and not (searches and _is_search(kind))}
    if not gone:
        return request
    kept = b",".join(tool for index, tool in enumerate(tools) if index not in gone).decode()
    context.dropped = *context.dropped, *(f"tools[{index}].{_printable(kind)}" for index, kind in gone.items())
    edited = request.edited({"tools": f"[{kept}]"})
    uses_cloud = is_cloud_name(request.route.model_text or "") or any(map(_is_search, set(kinds) - set(gone.values())))
    edited = replace(edited, route=replace(request.route, uses_cloud=uses_cloud))
    context.route = edited.route
    return edited


def _searches(environment: Environment, context: RequestContext, endpoint: Endpoint) -> bool:
    """Whether a server may search the web for this user, with its owner's account."""
    user = context.user
    if codec_of(endpoint.family).hosted_tools != "search":
        return False
    return user is None or may_use_cloud(user.role, user.grants, environment.config.cloud)


def _is_search(kind: Any) -> bool:
    return isinstance(kind, str) and kind.casefold().startswith("web_search")


def _printable(kind: str) -> str:
    return "".join(char for char in kind[:64] if char.isascii() and (char.isalnum() or char in "_-"))
