"""Checks of all that a response requires, each with its fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

from ollama_router_core.access.addresses import read_address
from ollama_router_core.errors import amount
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.models import ModelView, model_views
from ollama_router_server.admin.views.servers import ServerView, server_views
from ollama_router_server.services import Services

__all__ = ["CheckView", "ChecksView", "ClientAccess", "checks_view", "first_model", "is_loopback"]

_MOST_VERSIONS = 3


class CheckView(View):
    """One check. `holds` is null if it is no fault, or not known yet; `fix` says what to do unless it holds."""

    code: Literal["reachable", "encrypted", "servers", "ollama", "models", "allowed", "answered"]
    holds: bool | None
    text: str
    fix: str


class ChecksView(View):
    """Seven checks in order; `ready` if none fails. `model` is the allowed model likely to answer soonest."""

    ready: bool
    model: str | None
    checks: list[CheckView]


class ClientAccess(Struct, frozen=True):
    """How the router was reached: the host of the URL, the client's address, and whether by TLS.

    `answered` counts the requesting user's successful requests of the last week.
    """

    host: str
    address: str | None
    encrypted: bool
    answered: int


def checks_view(services: Services, allowed: Sequence[ModelView] | None, access: ClientAccess) -> ChecksView:
    """Run all checks; `allowed` are the models that the requesting user may use, None for a viewer."""
    servers = [one for one in server_views(services).servers if one.state != "disabled"]
    found = len(model_views(services, None).models)
    checks = [
        _reachable(services.config.proxy_host, access),
        _encrypted(access),
        *_of_servers(servers, hosted=any(one.enabled for one in services.config.external_hosts.values())),
        CheckView(
            code="models", holds=found > 0, text=f"{amount(found, 'model')} found", fix="ollama pull MODEL on a server"
        ),
        _allowed(allowed),
        _answered(access.answered),
    ]
    model = first_model(allowed or ())
    return ChecksView(ready=all(one.holds is not False for one in checks), model=model and model.name, checks=checks)


def first_model(models: Sequence[ModelView]) -> ModelView | None:
    """Return the model likely to answer soonest: loaded before on disk, then the smallest."""
    chats = [one for one in models if one.capabilities is None or "completion" in one.capabilities]
    return min(chats, key=lambda one: (not one.loaded_on, one.size, one.name), default=None)


def is_loopback(host: str | None) -> bool:
    """Return whether an address or name is local to this machine."""
    address = read_address((host or "").strip("[]"))
    return host == "localhost" if address is None else address.is_loopback


def _reachable(listens: str, access: ClientAccess) -> CheckView:
    """Check the client's address, which may prove that other machines reach the router, else the listening address."""
    if access.address is not None and not is_loopback(access.address):
        return CheckView(code="reachable", holds=True, text="Other machines can reach this address: yours does", fix="")
    if is_loopback(listens):
        fix = "set proxy_host: 0.0.0.0, or put a proxy in front of the router"
        return CheckView(code="reachable", holds=None, text="Only this machine can reach this address", fix=fix)
    return CheckView(
        code="reachable",
        holds=None,
        text="No other machine has opened this page yet",
        fix="open it on another machine; if it does not load, check the firewall",
    )


def _encrypted(access: ClientAccess) -> CheckView:
    safe = access.encrypted or is_loopback(access.host)
    told = "stays on this machine or is encrypted" if safe else "is not encrypted: tokens can be read on your network"
    return CheckView(
        code="encrypted",
        holds=safe or None,
        text=f"The connection {told}",
        fix="set tls, or put a proxy with TLS in front of the router",
    )


def _of_servers(servers: Sequence[ServerView], *, hosted: bool) -> Iterator[CheckView]:
    up = [one for one in servers if one.state in {"up", "draining"}]
    without = None if hosted and not servers else False
    yield CheckView(
        code="servers",
        holds=bool(up) or without,
        text=f"{len(up)} of {amount(len(servers), 'server')} up",
        fix="orouter status shows what is wrong"
        if servers
        else "orouter init --probe URL writes a config with a server",
    )
    versions = sorted({one.version for one in up if one.version})
    named = ", ".join(versions[:_MOST_VERSIONS]) + (" and others" if len(versions) > _MOST_VERSIONS else "")
    yield CheckView(
        code="ollama",
        holds=bool(versions) or without,
        text=f"They run Ollama {named}" if versions else "No server has answered as Ollama",
        fix="check host and port in the config",
    )


def _allowed(allowed: Sequence[ModelView] | None) -> CheckView:
    if allowed is None:
        told = "Your token may not use models: you are a viewer"
        return CheckView(code="allowed", holds=None, text=told, fix="an admin can give you another role")
    return CheckView(
        code="allowed",
        holds=bool(allowed),
        text=f"Your token may use {amount(len(allowed), 'model')}",
        fix="ask an admin; orouter users rights NAME shows why",
    )


def _answered(count: int) -> CheckView:
    return CheckView(
        code="answered",
        holds=count > 0 or None,
        text=f"You got {amount(count, 'answer')} in the last seven days" if count else "You have no answer yet",
        fix="send a request to a model",
    )
