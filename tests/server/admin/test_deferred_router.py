"""Routes that are worked out late."""

from __future__ import annotations

import pytest
from falcon.routing import CompiledRouter

from ollama_router_server.admin.deferred_router import DeferredRouter


class _Thing:
    """A resource."""

    async def on_get(self) -> None:
        """Answer."""


class _Blocking:
    """A resource that would hold the event loop up."""

    def on_get(self) -> None:
        """Answer."""


@pytest.mark.parametrize("uri", ["/things", "/things/7", "/things/7/parts/a/b", "/nothing", "/"])
def test_it_finds_what_falcon_s_own_finds(uri: str) -> None:
    """Also a route that is added after the first was found."""
    deferred, own = DeferredRouter(), CompiledRouter()
    thing = _Thing()
    for template in ("/things", "/things/{id}"):
        deferred.add_route(template, thing, _asgi=True)
        own.add_route(template, thing, _asgi=True)
    assert deferred.find("/things/8")[2] == {"id": "8"}
    for router in (deferred, own):
        router.add_route("/things/{id}/parts/{name:path}", thing, _asgi=True)
    found, expected = deferred.find(uri), own.find(uri)
    assert (found and (found[0], found[2], found[3])) == (expected and (expected[0], expected[2], expected[3]))


def test_a_resource_that_blocks_is_refused_with_the_first_request() -> None:
    """As Falcon refuses it when it is added."""
    router = DeferredRouter()
    router.add_route("/blocks", _Blocking(), _asgi=True)
    with pytest.raises(TypeError, match="non-blocking"):
        router.find("/")
