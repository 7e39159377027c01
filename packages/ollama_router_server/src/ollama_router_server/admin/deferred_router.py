"""Falcon's routes, worked out when the first request for one of them comes."""

from __future__ import annotations

from typing import Any

from falcon.routing import CompiledRouter

__all__ = ["DeferredRouter"]


class DeferredRouter(CompiledRouter):
    """Falcon's own router, except that a process that only relays never pays for a hundred routes.

    Working them out takes 10 to 15 ms, before a connection is accepted or, this way, with the first request that
    Falcon answers.
    """

    __slots__ = ("_told",)

    def __init__(self) -> None:
        super().__init__()
        self._told: list[tuple[str, object, dict[str, Any]]] = []

    def add_route(self, uri_template: str, resource: object, **options: Any) -> None:
        """Note a route."""
        self._told.append((uri_template, resource, options))

    def find(self, uri: str, req: Any = None) -> Any:
        """Return the route that Falcon's router finds, after adding the routes.

        Raises:
            ValueError: two routes contradict each other, or one is invalid.
            TypeError: a resource answers otherwise than by coroutines.
        """
        told, self._told = self._told, []
        for uri_template, resource, options in told:
            super().add_route(uri_template, resource, **options)
        return super().find(uri, req)
