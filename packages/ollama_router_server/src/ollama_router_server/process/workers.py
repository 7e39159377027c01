"""Several processes on one listening socket.

The supervisor forks workers, which inherit the socket, the config with its secrets and the shared memory. It runs no
event loop and has no other thread during a fork, so that no lock is copied while a thread holds it. A worker that
dies is replaced; the socket stays open meanwhile, so no connection is refused. A worker whose supervisor has died
stops as on SIGTERM.

    supervisor --SIGTERM, SIGHUP--> workers         worker --"ready"--> supervisor
    supervisor --lifeline (end of file: it is gone)--> worker
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final, Protocol

import structlog
from msgspec import Struct

from ollama_router_core.coordination.interface import LEASE_SECONDS, Coordination
from ollama_router_core.errors import RouterError
from ollama_router_server.coordination.shared_memory import SharedMemory
from ollama_router_server.process.signals import SignalQueue, heed
from ollama_router_server.process.succession import Succession, Successor
from ollama_router_server.system import SystemClock

__all__ = ["Supervised", "Supervisor", "Worker"]

_SHORT_LIFE_SECONDS: Final = 5.0
_RESTART_DELAY: Final = 1.0
"""Delay in seconds before replacing a worker that lived for less than `_SHORT_LIFE_SECONDS`."""
_POLL_SECONDS: Final = 0.5
"""Seconds that the supervisor waits for signals between checks of the workers."""

_log = structlog.get_logger("workers")


class Worker(Struct, frozen=True, kw_only=True):
    """One of several serving processes.

    Attributes:
        index: from 0; a replacement has the index of the worker that it replaces.
        coordination: the state shared by the workers.
        lifeline: a pipe's read end; end of file once the supervisor is gone.
    """

    index: int
    coordination: Coordination
    lifeline: int
    _ready: int

    def ready(self) -> None:
        """Tell the supervisor that connections are accepted."""
        os.write(self._ready, b"+")


class Supervised(Protocol):
    """The service for which the supervisor runs workers."""

    def open_log(self) -> Callable[[], None]:
        """Start logging in this process; return a function that stops it. Called again after each fork."""

    def accepting(self) -> None:
        """Handle that every worker accepts connections; called once."""

    def successor(self) -> Successor:
        """Start a successor on the same socket; may raise OSError."""

    def succeeded(self, successor: Successor) -> None:
        """Handle that the successor accepts connections; the workers are stopped next."""

    def reloading(self) -> None:
        """Handle a reload in place; the workers receive SIGHUP next."""

    def stopping(self) -> None:
        """Handle the first SIGTERM or SIGINT, or a failed start of the workers; called once."""

    def alive(self) -> None:
        """Handle a sign of life of the supervisor; called about twice a second."""


class _Child(Struct, kw_only=True):
    index: int
    started: float
    ready: int
    accepts: bool = False


class Supervisor:
    """Run workers until SIGTERM or SIGINT.

    Args:
        count: the number of workers.
        service: notified of events.
        grace: seconds for workers to exit before they are killed.
    """

    def __init__(self, count: int, service: Supervised, *, grace: float) -> None:
        self._count = count
        self._service = service
        self._grace = grace
        self._memory = SharedMemory(count)
        self._clock = SystemClock()
        self._children: dict[int, _Child] = {}
        self._due: dict[int, float] = {}
        self._succession = Succession(
            start=service.successor,
            succeeded=self._succeeded,
            in_place=self._reload,
            is_ending=lambda: self._stop_at is not None,
        )
        self._signals = SignalQueue()
        self._stop_at: float | None = None
        self._accepting = False
        self._close_log: Callable[[], None] = lambda: None
        self._lifeline = os.pipe()

    def run(self) -> Worker | None:
        """Return None in the supervisor, once every worker has exited, and the `Worker` in each worker.

        Signals are still blocked in a worker: it calls `signals.heed` once it can shut down cleanly.

        Raises:
            RouterError: a worker exited before it accepted connections for the first time.
        """
        self._signals.install()
        self._due = dict.fromkeys(range(self._count), 0.0)
        worker: Worker | None = None
        try:
            worker = self._supervise()
        finally:
            if worker is None:
                self._release()
        return worker

    def _supervise(self) -> Worker | None:
        while self._children or self._due:
            worker = self._start_due()
            if worker is not None:
                return worker
            self._read_ready()
            self._handle_signals()
            self._reap()
            self._kill_hung()
            self._service.alive()
        return None

    # --- starting ---------------------------------------------------------------------------------------------------

    def _start_due(self) -> Worker | None:
        now = self._clock.monotonic()
        due = [index for index, at in self._due.items() if at <= now]
        if due:
            self._close_log()  # its thread must not run during a fork
            self._close_log = lambda: None
        for index in due:
            del self._due[index]
            worker = self._fork(index, now)
            if worker is not None:
                return worker
        if due:
            self._close_log = self._service.open_log()
        return None

    def _fork(self, index: int, now: float) -> Worker | None:
        read, write = os.pipe()
        self._signals.block()
        pid = os.fork()
        if pid:
            heed()
            os.close(write)
            os.set_blocking(read, False)
            self._children[pid] = _Child(index=index, started=now, ready=read)
            return None
        os.close(read)
        self._become_worker()
        return Worker(index=index, coordination=self._memory.member(index), lifeline=self._lifeline[0], _ready=write)

    def _become_worker(self) -> None:
        """Release what belongs to the supervisor alone."""
        self._signals.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the supervisor decides
        for child in self._children.values():
            os.close(child.ready)
        os.close(self._lifeline[1])

    def _read_ready(self) -> None:
        """Wait for workers to accept connections, for a signal, or for `_POLL_SECONDS`."""
        waiting = {child.ready: child for child in self._children.values() if not child.accepts}
        starting = self._succession.starting
        ends = [*waiting] if starting is None else [*waiting, starting.ready]
        for end in self._signals.wait(ends, _POLL_SECONDS):
            if starting is not None and end == starting.ready:
                self._succession.hear(starting)
            elif os.read(end, 1):
                self._note_ready(waiting[end])

    def _note_ready(self, child: _Child) -> None:
        child.accepts = True
        if self._accepting:
            _log.info("worker_started", worker=child.index)
        elif self._stop_at is None and self._all_accept:
            self._accepting = True
            self._service.accepting()

    @property
    def _all_accept(self) -> bool:
        return len(self._children) == self._count and all(each.accepts for each in self._children.values())

    # --- ending -----------------------------------------------------------------------------------------------------

    def _handle_signals(self) -> None:
        for number in self._signals.take():
            if number in {signal.SIGUSR2, signal.SIGHUP}:
                self._succession.take_up(signal.Signals(number))
            elif self._stop_at is None:
                self._stop()
            else:
                self._send(signal.SIGKILL)  # second signal
        if self._stop_at is not None and self._clock.monotonic() >= self._stop_at:
            self._send(signal.SIGKILL)

    def _succeeded(self, successor: Successor) -> None:
        self._service.succeeded(successor)
        self._end_workers(signal.SIGUSR2)

    def _reload(self) -> None:
        self._service.reloading()
        self._send(signal.SIGHUP)

    def _stop(self) -> None:
        self._succession.stop()
        self._service.stopping()
        self._end_workers(signal.SIGTERM)

    def _end_workers(self, number: int) -> None:
        self._stop_at = self._clock.monotonic() + self._grace
        self._due.clear()
        self._send(number)

    def _send(self, number: int) -> None:
        for pid in self._children:
            os.kill(pid, number)

    def _reap(self) -> None:
        for pid, child in tuple(self._children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._children[pid]
                os.close(child.ready)
                self._handle_signals()  # the signal that ended the worker may have been sent to all processes
                self._replace(child, os.waitstatus_to_exitcode(status))

    def _replace(self, child: _Child, code: int) -> None:
        self._memory.forget(child.index)
        if self._stop_at is not None:
            return
        if not self._accepting and not child.accepts:
            self._stop()
            raise RouterError("a worker could not start; the lines above say why")
        now = self._clock.monotonic()
        delay = 0.0 if now - child.started >= _SHORT_LIFE_SECONDS else _RESTART_DELAY
        _log.error("worker_ended", worker=child.index, code=code, starts_again_in=delay)
        self._due[child.index] = now + delay

    def _kill_hung(self) -> None:
        now = self._clock.monotonic()
        for pid, child in self._children.items():
            beat = self._memory.last_beat(child.index)
            if child.accepts and self._stop_at is None and beat is not None and now - beat > LEASE_SECONDS:
                _log.error("worker_hangs", worker=child.index, seconds=round(now - beat))
                os.kill(pid, signal.SIGKILL)

    def _release(self) -> None:
        """Release everything, and wait for remaining workers; the closed lifeline stops them."""
        self._signals.close()
        for end in (*self._lifeline, *(child.ready for child in self._children.values())):
            os.close(end)
        for pid in self._children:
            os.waitpid(pid, 0)
        self._memory.close()
        self._close_log()
