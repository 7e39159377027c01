"""How a test's router runs exchanges: which driver, and whether anything has happened before.

The front driver runs on the strict front, the ASGI driver on uvicorn's own HTTP protocol. Cold: no token has been
verified, and no connection to a server is ever idle, so each exchange makes one. Warm: both users are known, and the
connections that the fleet's polls have made are idle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from unittest.mock import patch

from ollama_router_server.accounts.authentication import User
from ollama_router_server.relay.asgi_driver import AsgiDriver
from ollama_router_server.relay.front_driver import FrontDriver
from ollama_router_server.services import Services
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream

__all__ = ["MODES", "Mode", "current_mode", "using"]


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run exchanges; without a temperature the router is left as it is."""

    driver: Literal["front", "asgi"]
    temperature: Literal["cold", "warm"] | None

    def __str__(self) -> str:
        return f"{self.driver}-{self.temperature}"

    @contextmanager
    def upstream(self) -> Iterator[None]:
        """Services that are made inside keep no connection idle, if it is to be cold."""
        if self.temperature != "cold":
            yield
            return
        with patch("ollama_router_server.services.HttptoolsUpstream", partial(HttptoolsUpstream, keepalive=0.0)):
            yield

    async def warm_up(self, services: Services, *tokens: str) -> None:
        """Have these users verified, if it is to be warm."""
        for token in tokens if self.temperature == "warm" else ():
            found = services.authenticator.authenticate([(b"authorization", b"Bearer " + token.encode())])
            if not isinstance(found, User):
                await found


MODES = (Mode("front", "cold"), Mode("front", "warm"), Mode("asgi", "cold"), Mode("asgi", "warm"))
_USUAL = Mode("front", None)
_chosen: list[Mode] = []


def current_mode() -> Mode:
    """The mode of the running test."""
    return _chosen[-1] if _chosen else _USUAL


@contextmanager
def using(mode: Mode) -> Iterator[Counter[str]]:
    """Run routers that are started inside in a mode; counts their exchanges by driver."""
    driven: Counter[str] = Counter()

    def counted(driver: type[Any], name: str) -> Any:
        make = driver.__init__

        def init(self: Any, *given: Any) -> None:
            driven[name] += 1
            make(self, *given)

        return patch.object(driver, "__init__", init)

    _chosen.append(mode)
    try:
        with counted(FrontDriver, "front"), counted(AsgiDriver, "asgi"):
            yield driven
    finally:
        _chosen.pop()
