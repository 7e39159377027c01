"""Who may do what: one table over every route of `/router` and of the console, and every role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import falcon.inspect
import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.admin.deferred_router import DeferredRouter
from ollama_router_server.admin.openapi import openapi_document
from ollama_router_server.app import create_app
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

OURS = {"x-console": "1", "content-type": "application/json"}
ROLES = ("user", "viewer", "admin")
EVERYBODY, READERS, ADMINS, ACTING = {*ROLES}, {"viewer", "admin"}, {"admin"}, {"user", "admin"}
DOOR = {"/console/session", "/console/claim", "/console/v/{version}/{name:path}"}

JSON: dict[str, set[str]] = {
    "GET /router/about": EVERYBODY,
    "GET /router/errors": EVERYBODY,
    "GET /router/me": EVERYBODY,
    "GET /router/me/checks": EVERYBODY,
    "GET /router/me/usage": EVERYBODY,
    "POST /router/me/tokens": EVERYBODY,
    "DELETE /router/me/tokens/{token}": EVERYBODY,
    "GET /router/queue": EVERYBODY,
    "GET /router/models": EVERYBODY,
    "GET /router/models/{name:path}": READERS,
    "GET /router/requests": EVERYBODY,
    "GET /router/requests/{id}": EVERYBODY,
    "GET /router/requests/{id}/replay": READERS,
    "POST /router/requests/{id}/cancel": ACTING,
    "GET /router/explain": READERS,
    "GET /router/overview": READERS,
    "GET /router/servers": READERS,
    "GET /router/servers/{name}": READERS,
    "GET /router/servers/{name}/history": READERS,
    "GET /router/status": READERS,
    "GET /router/usage": READERS,
    "GET /router/usage.csv": READERS,
    "GET /router/series": READERS,
    "GET /router/history": READERS,
    "GET /router/history/whatif": ADMINS,
    "GET /router/incidents": READERS,
    "GET /router/usage/users": ADMINS,
    "GET /router/audit": ADMINS,
    "GET /router/doctor": ADMINS,
    "GET /router/config": ADMINS,
    "GET /router/diagnostics": ADMINS,
    "GET /router/openapi.json": ADMINS,
    "GET /router/whatif": ADMINS,
    "POST /router/servers/{name}/drain": ADMINS,
    "POST /router/servers/{name}/undrain": ADMINS,
    "POST /router/servers/{name}/probe": ADMINS,
    "GET /router/operations": ADMINS,
    "POST /router/operations": ADMINS,
    "GET /router/operations/{id}": ADMINS,
    "DELETE /router/operations/{id}": ADMINS,
    "POST /router/operations/{id}/retry": ADMINS,
    "GET /router/users": ADMINS,
    "POST /router/users": ADMINS,
    "GET /router/users/{name}": ADMINS,
    "PATCH /router/users/{name}": ADMINS,
    "DELETE /router/users/{name}": ADMINS,
    "GET /router/users/{name}/rights": ADMINS,
    "POST /router/users/{name}/rights": ADMINS,
    "GET /router/users/{name}/sessions": ADMINS,
    "DELETE /router/users/{name}/sessions": ADMINS,
    "DELETE /router/users/{name}/sessions/{id}": ADMINS,
    "POST /router/users/{name}/invitation": ADMINS,
    "DELETE /router/users/{name}/invitation": ADMINS,
    "GET /router/users/{name}/tokens": ADMINS,
    "POST /router/users/{name}/tokens": ADMINS,
    "DELETE /router/users/{name}/tokens/{token}": ADMINS,
    "GET /router/groups": ADMINS,
    "POST /router/groups": ADMINS,
    "GET /router/groups/{name}": ADMINS,
    "PATCH /router/groups/{name}": ADMINS,
    "DELETE /router/groups/{name}": ADMINS,
    "GET /router/groups/{name}/rights": ADMINS,
    "POST /router/groups/{name}/rights": ADMINS,
}
PAGES: dict[str, set[str]] = {
    "GET /console/": EVERYBODY,
    "GET /console/about": EVERYBODY,
    "GET /console/errors": EVERYBODY,
    "GET /console/requests": EVERYBODY,
    "GET /console/events": EVERYBODY,
    "GET /console/requests/{id}": EVERYBODY,
    "GET /console/models": EVERYBODY,
    "GET /console/models/{name:path}": READERS,
    "GET /console/now": READERS,
    "GET /console/servers": READERS,
    "GET /console/servers/{name}": READERS,
    "GET /console/usage": READERS,
    "GET /console/usage.csv": READERS,
    "GET /console/diagnostics.json": ADMINS,
    "GET /console/act/requests/{id}": EVERYBODY,
    "GET /console/find": EVERYBODY,
    "GET /console/play": ACTING,
    "POST /console/play/api/chat": ACTING,
    "GET /console/people": ADMINS,
    "GET /console/people/{name:path}": ADMINS,
    "GET /console/groups": ADMINS,
    "GET /console/groups/{name:path}": ADMINS,
    "GET /console/history": READERS,
    "GET /console/doctor": ADMINS,
    "GET /console/operations": ADMINS,
    "GET /console/whatif": ADMINS,
    "GET /console/whatif/events": ADMINS,
}


def acting(table: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same for what the console's script does: the rights of the route below `/router/`."""
    return {route.replace("/router/", "/console/act/"): roles for route, roles in table.items()}


@pytest.fixture
async def router(tmp_path: Path) -> AsyncIterator[RunningRouter]:
    """A router with a user of each role."""
    async with (
        OllamaSimulator(models=[model("llama3.2:3b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as one,
    ):
        yield one


@falcon.inspect.register_router(DeferredRouter)
def _inspect(router: DeferredRouter) -> list[falcon.inspect.RouteInfo]:
    """The routes that it was told, worked out."""
    router.find("/")
    return falcon.inspect.inspect_compiled_router(router)


def routes_of(router: RunningRouter) -> set[str]:
    """Every route of the application, with its method."""
    found = falcon.inspect.inspect_routes(create_app(router.services)._falcon)
    return {
        f"{method.method} {route.path}"
        for route in found
        for method in route.methods
        if not method.internal and route.path.startswith(("/router/", "/console/")) and route.path not in DOOR
    }


def path_of(route: str) -> tuple[str, str]:
    """Method and a path of a route, of things that are not there."""
    method, path = route.split(" ")
    for name in ("{name:path}", "{name}", "{id}", "{token}"):
        path = path.replace(name, "nobody")
    return method, path


async def refused(client: httpx.AsyncClient, route: str, headers: dict[str, str]) -> int | None:
    """401 or 403 if that is the answer; else None, whatever the answer is."""
    method, path = path_of(route)
    content = b"[]" if method in {"POST", "PATCH"} else None
    answer = await client.request(method, path, headers=headers, content=content)
    assert answer.status_code < 500, answer.text
    return answer.status_code if answer.status_code in {401, 403} else None


async def clients_of(router: RunningRouter) -> dict[str, httpx.AsyncClient]:
    """A client with a token for each role."""
    async with router.client(router.admin_token) as admin:
        made = (await admin.post("/router/users", json={"name": "vic", "role": "viewer"})).json()
    await router.services.authenticator.refresh()
    tokens = {"user": router.token, "viewer": made["token"], "admin": router.admin_token}
    return {role: router.client(token) for role, token in tokens.items()}


async def test_the_table_has_every_route(router: RunningRouter) -> None:
    """A route that nobody has thought of fails here first; the description has all of `/router`, with their roles."""
    routes = routes_of(router)
    assert {*JSON, *PAGES} <= routes <= {*JSON, *PAGES, *acting(JSON)}
    paths = openapi_document()["paths"]
    described = {
        f"{method.upper()} {path}": set(one["x-roles"])
        for path, found in paths.items()
        for method, one in found.items()
    }
    assert described == {route.replace(":path", ""): roles for route, roles in JSON.items()}


async def test_each_role_may_what_the_table_says(router: RunningRouter) -> None:
    """By token for JSON, by session for pages and what they do; a stranger may nothing."""
    clients = await clients_of(router)
    routes = routes_of(router)
    actions = {route: roles for route, roles in acting(JSON).items() if route in routes}
    stranger = router.client("")
    for route, allowed in JSON.items():
        assert await refused(stranger, route, {}) == 401, route
        for role, client in clients.items():
            assert await refused(client, route, {}) == (None if role in allowed else 403), (route, role)
    for role, client in clients.items():
        browser = router.client("")
        token = client.headers["authorization"].removeprefix("Bearer ")
        assert (await browser.post("/console/session", json={"token": token}, headers=OURS)).status_code == 200
        for route, allowed in {**PAGES, **actions}.items():
            assert await refused(stranger, route, OURS) == 401, route
            assert await refused(browser, route, OURS) == (None if role in allowed else 403), (route, role)
        await browser.aclose()
        await client.aclose()
    await stranger.aclose()
