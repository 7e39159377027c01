"""The synchronous transport: blocking I/O in the calling threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from ollama_router_core.client.explaining import explain
from ollama_router_core.client.libraries import any_library, as_stream, library_of
from ollama_router_core.client.messages import build_response
from ollama_router_core.client.sync_driver import SyncDriver
from ollama_router_core.client.system import Clock
from ollama_router_core.client.transport import BaseTransport
from ollama_router_core.config.settings import Config
from ollama_router_core.exchange.actions import WriteHead
from ollama_router_core.records.sinks import LogSink
from ollama_router_core.routing.decision import Decision

__all__ = ["RouterTransport"]


class RouterTransport(BaseTransport):
    """Route a program's requests to its best server; for `httpx.Client` and `httpx2.Client`.

    Thread-safe. `close` ends all threads and connections.

    Args:
        config: servers, external hosts, assignments, strategy.
        inner: the transport that sends requests; None uses HTTP transports of the request's library.
        sink: receives one record per request.
        environment: the variables for `api_key_env`; None uses the process's.
        clock: the clock; None uses the system's.

    Raises:
        ConfigError: a model that must stay local is assigned to an external host.
    """

    def __init__(
        self,
        config: Config,
        *,
        inner: Any = None,
        sink: LogSink | None = None,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(config, sink=sink, environment=environment, clock=clock)
        self._driver = SyncDriver(self._state, inner)

    def explain(self, model: str, *, context: int | None = None, needs: Iterable[str] = ("completion",)) -> Decision:
        """Return the current routing decision for a model, with a verdict for every server.

        Args:
            model: the name as in a request.
            context: the context in tokens, as `num_ctx`.
            needs: capabilities the model must have (`completion`, `tools`, `vision`, `embedding`).
        """
        library = any_library()
        self._driver.know_the_fleet(library)
        return self._driver.drive(library, explain(self._state, model, context, needs))

    def handle_request(self, request: Any) -> Any:
        """Serve one request: return a server's response, or the router's own in the route's dialect.

        Raises:
            TransportError: no server could be reached, or the exchange broke off; the class is the request's library's.
        """
        library = library_of(request)
        call = self._driver.call(library, request, request.read())
        self._driver.know_the_fleet(library)
        answer = self._driver.answer(call)
        head = next(answer)
        if not isinstance(head, WriteHead):
            raise TypeError("an answer begins with its head")
        if call.exception is not None and not call.cut:
            answer.close()
            raise call.exception
        return build_response(library, head.status, head.fields, as_stream(library, answer), call.extensions)

    def close(self) -> None:
        """Close every connection and wait for background queries."""
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()
