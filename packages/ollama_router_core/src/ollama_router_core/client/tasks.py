"""Tasks for a driver: a program's request, or the transport's own queries. No I/O here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar, assert_never

from ollama_router_core.client.libraries import exception_of, failure_of
from ollama_router_core.client.messages import header_fields
from ollama_router_core.client.stale_connections import ConnectionTrace
from ollama_router_core.client.transport_state import State
from ollama_router_core.errors import BodyTooLarge, RouterError, UnsupportedEncoding, UpstreamError
from ollama_router_core.exchange.actions import (
    Action,
    Admit,
    AwaitCharge,
    AwaitHead,
    AwaitSlot,
    Charge,
    Compute,
    Count,
    Cut,
    Finish,
    LookForModels,
    Outgoing,
    ReadBody,
    Receive,
    ReceiveAny,
    Record,
    Release,
    Send,
    Steps,
    StreamBody,
    UseStore,
    Verify,
    Write,
    WriteHead,
)
from ollama_router_core.exchange.events import Arrival, ClientLeft, Upstream
from ollama_router_core.exchange.machine import Exchange
from ollama_router_core.outbound.destinations import Destination, Patience

__all__ = ["Call", "Output", "Query", "Task", "Wait"]

_Result = TypeVar("_Result")
_NO_TIMEOUTS: Mapping[str, float | None] = {}

Wait = AwaitSlot | LookForModels | AwaitHead | Receive | ReceiveAny | Release
"""The actions that need I/O, performed by the driver."""
Output = WriteHead | bytes
"""The output for the program."""
Open = Callable[["Task", Outgoing], Upstream]


class Task(ABC):
    """Run a state machine of the exchange up to its next I/O. Not thread-safe.

    Args:
        state: the transport's state.
        library: the module that builds requests, httpx or httpx2.
        open_upstream: creates the upstream of a request to send.

    Attributes:
        failure: the last exception of the inner transport; None after a response.
        extensions: the extensions of the last response.
        arrivals: arrivals from upstreams that are read concurrently.
    """

    def __init__(self, state: State, library: Any, open_upstream: Open) -> None:
        self.library = library
        self.failure: Exception | None = None
        self.extensions: Mapping[str, Any] = {}
        self.arrivals: deque[Arrival] = deque()
        self._state = state
        self._open = open_upstream
        self._output: deque[Output] = deque()
        self._wait: Wait | None = None
        self._ended = False

    # --- for drivers --------------------------------------------------------------------------------------------------

    def resume(self, result: object = None) -> Output | Wait | None:
        """Continue with the result of the last wait; return the next output or wait, None at the end."""
        return self._continue(self._send, result)

    def fail(self, error: BaseException) -> Output | Wait | None:
        """Continue after the last wait failed; return as `resume` does."""
        return self._continue(self._raise, error)

    def give_up(self) -> Output | Wait | None:
        """Abandon the task; return as `resume` does."""
        return None if self._ended else self.fail(ClientLeft())

    def advance(self) -> Output | Wait | None:
        """Continue after an output; return as `resume` does."""
        return self._output.popleft() if self._output else self._wait

    def timeouts(self, destination: Destination, patience: Patience) -> dict[str, float | None]:
        """Return the timeouts of a request in seconds, in the format of the libraries' `timeout` extension."""
        del destination
        connect, read = patience.connect, patience.first_byte
        return {"connect": connect, "read": read, "write": read, "pool": connect}

    def failed(self, error: Exception, server: str, trace: ConnectionTrace | None = None) -> NoReturn:
        """Raise the router's error for a transport error, or the exception itself if it is another one.

        `trace` is that of the request's connection, until the head of the response.
        """
        failure = failure_of(self.library, error, server)
        if failure is None:
            raise error
        if trace is not None:
            trace.judge(self.library, error, failure)
        self.failure = error
        raise failure from error

    def forget(self, upstream: Upstream) -> None:
        """Drop the arrivals of a released upstream."""
        self.arrivals = deque(arrival for arrival in self.arrivals if arrival.upstream is not upstream)

    # --- the machine --------------------------------------------------------------------------------------------------

    @abstractmethod
    def _send(self, result: object) -> Action | None:
        """Resume the machine."""

    @abstractmethod
    def _raise(self, error: BaseException) -> Action | None:
        """Resume the machine with the failure of its action."""

    @abstractmethod
    def _carry_out(self, action: Admit | ReadBody | StreamBody | WriteHead | Write | Finish | Cut | Record) -> object:
        """Perform an action that occurs only in a program's request."""

    def _continue(self, step: Callable[[Any], Action | None], argument: object) -> Output | Wait | None:
        try:
            self._wait = self._until_wait(step(argument))
        except BaseException:
            self._ended = True
            raise
        self._ended = self._wait is None
        return self.advance()

    def _until_wait(self, action: Action | None) -> Wait | None:
        while action is not None:
            match action:
                case AwaitSlot() | LookForModels() | AwaitHead() | Receive() | ReceiveAny() | Release():
                    return action
                case Send():
                    action = self._send(self._open(self, action.request))
                case Compute(function):
                    action = self._computed(function)
                case Verify() | Count() | Charge() | AwaitCharge() | UseStore():
                    raise TypeError("a program's requests have no user, limits or stored responses")
                case _:
                    try:
                        result = self._carry_out(action)
                    except RouterError as error:
                        action = self._raise(error)
                    else:
                        action = self._send(result)
        return None

    def _computed(self, function: Callable[[], Any]) -> Action | None:
        """Compute inline: there is no event loop, or the program's own large request blocks it."""
        try:
            result = function()
        except RouterError as error:
            return self._raise(error)
        return self._send(result)


class Query(Task, Generic[_Result]):
    """Steps outside a program's request. `value` is their result."""

    def __init__(self, state: State, library: Any, open_upstream: Open, steps: Steps[_Result]) -> None:
        super().__init__(state, library, open_upstream)
        self._steps = steps
        self.value: _Result | None = None

    def _send(self, result: object) -> Action | None:
        return self._advance(partial(self._steps.send, result))

    def _raise(self, error: BaseException) -> Action | None:
        return self._advance(partial(self._steps.throw, error))

    def _advance(self, step: Callable[[], Action]) -> Action | None:
        try:
            return step()
        except StopIteration as stop:
            self.value = stop.value
        except ClientLeft:
            pass  # given up
        return None

    def _carry_out(self, action: Action) -> object:
        raise TypeError(f"a query yields no {type(action).__name__}")


class Call(Task):
    """A program's request.

    Attributes:
        context: the request's state.
        cut: whether the response is incomplete.
    """

    def __init__(
        self, state: State, library: Any, open_upstream: Open, request: Any, body: bytes, wake: Callable[[], None]
    ) -> None:
        super().__init__(state, library, open_upstream)
        path, _, query = request.url.raw_path.partition(b"?")
        headers = header_fields(request.headers)
        self.context = state.context(request.method, path.decode("ascii", "replace"), query, headers)
        self.cut = False
        self._request = request
        self._body = body
        self._wake = wake
        self._exchange = Exchange(state.environment, self.context)
        self._timeouts: Mapping[str, float | None] = request.extensions.get("timeout") or _NO_TIMEOUTS

    def timeouts(self, destination: Destination, patience: Patience) -> dict[str, float | None]:
        """Return the program's timeouts, if set, except for brief queries; the config limits the connect timeout."""
        asked, brief = self._timeouts, patience.first_byte < destination.patience.first_byte
        connect, read, write = asked.get("connect"), asked.get("read"), asked.get("write")
        if connect is None or connect > patience.connect:
            connect = patience.connect
        if read is None or brief:
            read = patience.first_byte
        return {"connect": connect, "read": read, "write": read if write is None else write, "pool": connect}

    @property
    def exception(self) -> BaseException | None:
        """The exception to raise instead of the response or its rest; None if the response is complete."""
        error = self.context.error
        if isinstance(error, UpstreamError) and self.failure is not None:
            return exception_of(self.library, self._request, error, self.failure)
        if not self.cut:
            return None
        text = "the answer is not complete" if error is None else error.message
        made: Exception = self.library.RemoteProtocolError(text)
        return made

    def _send(self, result: object) -> Action | None:
        return self._exchange.resume(result)

    def _raise(self, error: BaseException) -> Action | None:
        return self._exchange.fail(error)

    def _carry_out(self, action: Admit | ReadBody | StreamBody | WriteHead | Write | Finish | Cut | Record) -> object:
        match action:
            case Admit():
                self._state.admitted(self.context)
                return self._state.admission.admit(action, self._wake)
            case ReadBody():
                return self._read_body(action)
            case StreamBody():
                self.context.bytes_in = len(self._body)
                return (self._body,) * action.readers
            case WriteHead():
                self._output.append(action)
            case Write() | Finish():
                if action.data:
                    self._output.append(action.data)
            case Cut():
                self.cut = True
            case Record():
                self._state.ended(self.context)
                if self._state.sink is not None:
                    self._state.sink.write(action.row)
            case _:
                assert_never(action)
        return None

    def _read_body(self, action: ReadBody) -> bytes:
        if action.compressed:
            raise UnsupportedEncoding("send the body without Content-Encoding")
        if len(self._body) > action.limit:
            raise BodyTooLarge(f"the body is larger than the limit of {action.limit} bytes")
        self.context.bytes_in = len(self._body)
        return self._body
