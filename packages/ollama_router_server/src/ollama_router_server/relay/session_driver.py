"""The driver of an exchange whose user is known in advance: the console's playground."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ollama_router_core.exchange.actions import Verify
from ollama_router_core.exchange.machine import Exchange
from ollama_router_server.accounts.authentication import User
from ollama_router_server.relay.asgi_driver import AsgiDriver
from ollama_router_server.relay.bodies import Receive, Send
from ollama_router_server.relay.collaborators import Collaborators
from ollama_router_server.relay.driver import Handler

__all__ = ["SessionDriver"]


class SessionDriver(AsgiDriver):
    """Authenticate as the session's user; everything else is as with a token of that user."""

    __slots__ = ("_user",)

    def __init__(
        self, collaborators: Collaborators, exchange: Exchange, receive: Receive, send: Send, *, user: User
    ) -> None:
        super().__init__(collaborators, exchange, receive, send)
        self._user = user

    def _verify(self, action: Verify) -> Any:
        return self._user if action.speaker is None else super()._verify(action)

    handlers: ClassVar[Mapping[type, Handler]] = {**AsgiDriver.handlers, Verify: _verify}
