"""The asynchronous transport, for asyncio and trio."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from ollama_router_core.client.async_driver import AsyncDriver
from ollama_router_core.client.explaining import explain
from ollama_router_core.client.libraries import any_library, as_stream, library_of
from ollama_router_core.client.messages import build_response
from ollama_router_core.client.transport import BaseTransport
from ollama_router_core.exchange.actions import WriteHead
from ollama_router_core.routing.decision import Decision

__all__ = ["AsyncRouterTransport"]


class AsyncRouterTransport(BaseTransport):
    """Route a program's requests to its best server; for `httpx.AsyncClient` and `httpx2.AsyncClient`.

    Supports asyncio and trio. `aclose` ends all tasks and connections.

    Arguments and errors are those of `BaseTransport`.
    """

    _driver_class = AsyncDriver
    _driver: AsyncDriver

    async def explain(
        self, model: str, *, context: int | None = None, needs: Iterable[str] = ("completion",)
    ) -> Decision:
        """Return the current routing decision for a model, with a verdict for every server.

        Args:
            model: the name as in a request.
            context: the context in tokens, as `num_ctx`.
            needs: capabilities the model must have (`completion`, `tools`, `vision`, `embedding`).
        """
        library = any_library()
        await self._driver.await_facts(library)
        return await self._driver.drive(library, explain(self._state, model, context, needs))

    async def handle_async_request(self, request: Any) -> Any:
        """Serve one request: return a server's response, or the router's own in the route's dialect.

        Raises:
            TransportError: no server could be reached, or the exchange broke off; the class is the request's library's.
        """
        library = library_of(request)
        call = self._driver.call(library, request, await request.aread())
        await self._driver.await_facts(library)
        answer = self._driver.answer(call)
        head = await anext(answer)
        if not isinstance(head, WriteHead):
            raise TypeError("an answer begins with its head")
        if call.exception is not None and not call.cut:
            await answer.aclose()
            raise call.exception
        return build_response(library, head.status, head.fields, as_stream(library, answer), call.extensions)

    async def aclose(self) -> None:
        """Close every connection and cancel background queries."""
        await self._driver.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()
