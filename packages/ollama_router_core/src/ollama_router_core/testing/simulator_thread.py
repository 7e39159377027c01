"""The simulator in a background thread, for synchronous tests and the command line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from ollama_router_core.testing.simulator import OllamaSimulator

__all__ = ["SimulatorThread"]

_T = TypeVar("_T")
_START_SECONDS = 10.0


class SimulatorThread:
    """`OllamaSimulator` in a thread with its own event loop.

    Accepts the simulator's options. Other threads may read `simulator`'s counters and add faults; for anything else use
    `call`.
    """

    def __init__(self, **options: Any) -> None:
        self.simulator = OllamaSimulator(**options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="ollama-simulator", daemon=True)
        self._started = threading.Event()
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return self.simulator.url

    @property
    def port(self) -> int:
        """The listening port."""
        return self.simulator.port

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the thread and wait until the server listens."""
        self._thread.start()
        if not self._started.wait(_START_SECONDS):
            raise TimeoutError("the simulator did not start")
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Stop the server and end the thread; idempotent."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def call(self, action: Callable[[OllamaSimulator], _T]) -> _T:
        """Run `action` with the simulator in its own loop, and return the result."""

        async def run() -> _T:
            return action(self.simulator)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def pause(self) -> None:
        """Refuse new connections."""
        self.call(OllamaSimulator.pause)

    def resume(self) -> None:
        """Listen again on the same port."""
        asyncio.run_coroutine_threadsafe(self.simulator.resume(), self._loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self.simulator.start())
        except OSError as error:
            self._failure = error
            self._loop.close()
            self._started.set()
            return
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self.simulator.stop())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
