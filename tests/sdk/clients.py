"""One way to call a client library, whether it is the synchronous or the asynchronous one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

__all__ = ["Calls", "open_calls"]


class Calls(ABC):
    """Calls methods by name: `call("chat.completions.create", ...)`."""

    @abstractmethod
    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """What the method returns."""

    @abstractmethod
    def collect(self, method: str, *arguments: Any, **options: Any) -> list[Any]:
        """Everything that the returned stream yields."""

    @abstractmethod
    def final(self, method: str, ask: str, **options: Any) -> Any:
        """What `ask` gives on the stream that the method opens as a context manager."""

    @abstractmethod
    def close(self) -> None:
        """Close the client."""


class _Sync(Calls):
    def __init__(self, client: Any) -> None:
        self._client = client

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return attrgetter(method)(self._client)(*arguments, **options)

    def collect(self, method: str, *arguments: Any, **options: Any) -> list[Any]:
        return list(self.call(method, *arguments, **options))

    def final(self, method: str, ask: str, **options: Any) -> Any:
        with self.call(method, **options) as stream:
            return getattr(stream, ask)()

    def close(self) -> None:
        self._client.close()


class _Async(Calls):
    def __init__(self, client: Any, portal: BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        async def run() -> Any:
            return await attrgetter(method)(self._client)(*arguments, **options)

        return self._portal.call(run)

    def collect(self, method: str, *arguments: Any, **options: Any) -> list[Any]:
        async def run() -> list[Any]:
            return [one async for one in await attrgetter(method)(self._client)(*arguments, **options)]

        return self._portal.call(run)

    def final(self, method: str, ask: str, **options: Any) -> Any:
        async def run() -> Any:
            async with attrgetter(method)(self._client)(**options) as stream:
                return await getattr(stream, ask)()

        return self._portal.call(run)

    def close(self) -> None:
        self._portal.call(self._client.close)


@contextmanager
def open_calls(flavour: str, sync: Any, asynchronous: Any, **options: Any) -> Iterator[Calls]:
    """A client of the class for `flavour`, "sync" or "async", closed at the end."""
    with start_blocking_portal() as portal:
        calls: Calls = _Sync(sync(**options)) if flavour == "sync" else _Async(asynchronous(**options), portal)
        try:
            yield calls
        finally:
            calls.close()
