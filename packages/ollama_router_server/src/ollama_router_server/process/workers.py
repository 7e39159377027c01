"""Several processes on one listening socket: started, watched, started again, told to end.

The supervisor forks: workers inherit the socket, the config with its secrets and the shared memory as they are. It
runs no event loop and, at the moment of a fork, no thread, so no lock is copied that a thread holds. A worker that dies
is started again; the socket stays open meanwhile, so no connection is refused. A worker whose supervisor has died ends
as if it had been told to.

    supervisor --SIGTERM, SIGHUP--> workers         worker --"ready"--> supervisor
    supervisor --lifeline (end of file: it is gone)--> worker
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import structlog

from ollama_router_core.coordination import LEASE_SECONDS, Coordination
from ollama_router_core.errors import RouterError
from ollama_router_server.coordination.shared_memory import SharedMemory
from ollama_router_server.system import SystemClock

__all__ = ["Supervisor", "Worker"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_SHORT_LIFE: Final = 5.0
_PAUSE: Final = 1.0
"""Seconds before a worker is started again that did not live for `_SHORT_LIFE` seconds."""
_LOOK: Final = 0.5
"""Seconds between looks at the workers while nothing happens."""

_log = structlog.get_logger("workers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One of several processes: `lifeline` reads as ended once the supervisor is gone."""

    index: int
    coordination: Coordination
    lifeline: int
    _ready: int

    def ready(self) -> None:
        """Tell the supervisor that connections are accepted."""
        os.write(self._ready, b"+")


@dataclass(slots=True, kw_only=True)
class _Child:
    index: int
    started: float
    ready: int
    accepts: bool = False


class Supervisor:
    """Runs workers until it is told to end.

    Args:
        count: how many.
        grace: seconds that workers get to end before they are killed.
        open_log: begins to log in this process; what it returns ends that.
        accepting: called once, when every worker accepts connections.
        stopping: called once, when it was told to end.
        reloading: called for each SIGHUP.
        alive: called about twice a second.
    """

    def __init__(
        self,
        count: int,
        *,
        grace: float,
        open_log: Callable[[], Callable[[], None]],
        accepting: Callable[[], None],
        stopping: Callable[[], None] = lambda: None,
        reloading: Callable[[], None] = lambda: None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._count = count
        self._grace = grace
        self._open_log = open_log
        self._tell = {"accepting": accepting, "stopping": stopping, "reloading": reloading, "alive": alive}
        self._memory = SharedMemory(count)
        self._clock = SystemClock()
        self._children: dict[int, _Child] = {}
        self._due: dict[int, float] = {}
        self._caught: list[int] = []
        self._kept: dict[int, Any] = {}
        self._stop_at: float | None = None
        self._served = False
        self._close_log: Callable[[], None] = lambda: None
        self._lifeline = os.pipe()
        self._wakeup = os.pipe()
        for end in self._wakeup:
            os.set_blocking(end, False)

    def run(self) -> Worker | None:
        """In the supervisor: None when every worker has ended. In a worker: who it is.

        Raises:
            RouterError: a worker ended before it accepted connections for the first time.
        """
        self._catch_signals()
        self._due = dict.fromkeys(range(self._count), 0.0)
        worker: Worker | None = None
        try:
            worker = self._look_after()
        finally:
            if worker is None:
                self._release()
        return worker

    # --- processes --------------------------------------------------------------------------------------------------

    def _look_after(self) -> Worker | None:
        while self._children or self._due:
            worker = self._start_due()
            if worker is not None:
                return worker
            self._wait()
            self._obey()
            self._reap()
            self._kill_hung()
            self._tell["alive"]()
        return None

    def _start_due(self) -> Worker | None:
        now = self._clock.monotonic()
        due = [index for index, at in self._due.items() if at <= now]
        if due:
            self._close_log()  # its thread must not be there when we fork
            self._close_log = lambda: None
        for index in due:
            del self._due[index]
            worker = self._fork(index, now)
            if worker is not None:
                return worker
        if due:
            self._close_log = self._open_log()
        return None

    def _fork(self, index: int, now: float) -> Worker | None:
        read, write = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # one that comes now must not be lost in the worker
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            os.close(write)
            os.set_blocking(read, False)
            self._children[pid] = _Child(index=index, started=now, ready=read)
            return None
        os.close(read)
        self._become_worker()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        return Worker(index=index, coordination=self._memory.member(index), lifeline=self._lifeline[0], _ready=write)

    def _become_worker(self) -> None:
        """What belongs to the supervisor alone is let go of."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._kept.items():
            signal.signal(number, handler)
        for child in self._children.values():
            os.close(child.ready)
        for end in (*self._wakeup, self._lifeline[1]):
            os.close(end)

    def _reap(self) -> None:
        for pid, child in tuple(self._children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._children[pid]
                os.close(child.ready)
                self._ended(child, os.waitstatus_to_exitcode(status))

    def _kill_hung(self) -> None:
        now = self._clock.monotonic()
        for pid, child in self._children.items():
            beat = self._memory.last_beat(child.index)
            if child.accepts and self._stop_at is None and beat is not None and now - beat > LEASE_SECONDS:
                _log.error("worker_hangs", worker=child.index, seconds=round(now - beat))
                os.kill(pid, signal.SIGKILL)

    def _ended(self, child: _Child, code: int) -> None:
        self._memory.forget(child.index)
        if self._stop_at is not None:
            return
        if not self._served and not child.accepts:
            self._stop()
            raise RouterError("a worker could not start; the lines above say why")
        now = self._clock.monotonic()
        wait = 0.0 if now - child.started >= _SHORT_LIFE else _PAUSE
        _log.error("worker_ended", worker=child.index, code=code, starts_again_in=wait)
        self._due[child.index] = now + wait

    # --- signals and pipes ------------------------------------------------------------------------------------------

    def _catch_signals(self) -> None:
        self._kept = {number: signal.signal(number, self._catch) for number in _SIGNALS}
        signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._caught.append(number)

    def _wait(self) -> None:
        """Until something happens, at most for a while."""
        waiting = {child.ready: child for child in self._children.values() if not child.accepts}
        readable, _, _ = select.select([self._wakeup[0], *waiting], (), (), _LOOK)
        for end in readable:
            said = os.read(end, 64)
            if end in waiting and said:
                self._accepts(waiting[end])

    def _accepts(self, child: _Child) -> None:
        child.accepts = True
        if not self._served and len(self._children) == self._count and all(c.accepts for c in self._children.values()):
            self._served = True
            self._tell["accepting"]()
        elif self._served:
            _log.info("worker_started", worker=child.index)

    def _obey(self) -> None:
        while self._caught:
            number = self._caught.pop(0)
            if number == signal.SIGHUP:
                self._tell["reloading"]()
                self._send(signal.SIGHUP)
            elif self._stop_at is None:
                self._stop()
            else:
                self._send(signal.SIGKILL)  # asked twice
        if self._stop_at is not None and self._clock.monotonic() >= self._stop_at:
            self._send(signal.SIGKILL)

    def _stop(self) -> None:
        self._stop_at = self._clock.monotonic() + self._grace
        self._due.clear()
        self._tell["stopping"]()
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        for pid in self._children:
            os.kill(pid, number)

    def _release(self) -> None:
        """Nothing of the supervisor is left; workers that still run are told by the lifeline."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._kept.items():
            signal.signal(number, handler)
        for end in (*self._lifeline, *self._wakeup, *(child.ready for child in self._children.values())):
            os.close(end)
        for pid in self._children:
            os.waitpid(pid, 0)
        self._memory.close()
        self._close_log()
