"""Falcon's routes, compiled with the first request that needs one."""

from __future__ import annotations

from typing import Any

from falcon.routing import CompiledRouter

__all__ = ["DeferredRouter"]


class DeferredRouter(CompiledRouter):
    """Falcon's router with deferred compilation, for processes that only relay.

    Compiling a hundred routes takes 10 to 15 ms; the first request that Falcon answers pays for it, not the start.
    """

    __slots__ = ("_recorded",)

    def __init__(self) -> None:
        super().__init__()
        self._recorded: list[tuple[str, object, dict[str, Any]]] = []

    def add_route(self, uri_template: str, resource: object, **options: Any) -> None:
        """Record a route."""
        self._recorded.append((uri_template, resource, options))

    def find(self, uri: str, req: Any = None) -> Any:
        """Return the route from Falcon's router, after adding the recorded routes.

        Raises:
            ValueError: two routes conflict, or one is invalid.
            TypeError: a responder is not a coroutine.
        """
        recorded, self._recorded = self._recorded, []
        for uri_template, resource, options in recorded:
            super().add_route(uri_template, resource, **options)
        return super().find(uri, req)
