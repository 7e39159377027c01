"""A successor: the program restarted on the socket that this process listens on.

The successor inherits the socket, so both processes share the kernel's queue of connections. It writes one byte to a
pipe when it accepts connections; end of file without that byte means that it failed. Service managers pass sockets in
the same way (`LISTEN_FDS`).

    this process --fork, exec--> successor        successor --"+"--> this process, which stops accepting
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from msgspec import Struct

from ollama_router_server.fleet.health_checker import START_SECONDS
from ollama_router_server.process.installation import Installation

__all__ = [
    "Succession",
    "Successor",
    "held_by_manager",
    "inherited_socket",
    "start_patience",
    "start_successor",
    "tell_predecessor",
]

_SOCKET: Final = "OROUTER_LISTEN_FD"
_READY: Final = "OROUTER_READY_FD"
_FIRST_OF_MANAGER: Final = 3
_PATIENCE: Final = 30.0
"""Seconds that a start on an inherited socket waits for servers, though each probe ends within `probe_timeout`: a
router that knows of no server yet would refuse requests that others accept."""


_log = structlog.get_logger("serve")


class Successor(Struct, eq=False):
    """A starting successor, and the signal to forward to it.

    Attributes:
        process: the successor's process.
        ready: a pipe's read end: one byte once it accepts, end of file if it fails.
        installed: the installation that it was started from.
        asked: the last SIGHUP or SIGUSR2 that this process received since; None if none arrived.
        accepts: whether it accepts connections.
        stopped: whether it was told to stop, together with this process.
    """

    process: subprocess.Popen[bytes]
    ready: int
    installed: Installation
    asked: signal.Signals | None = None
    accepts: bool = False
    stopped: bool = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def ask(self, number: signal.Signals) -> None:
        """Forward a signal to the successor once it accepts; it may have read an older config or program.

        Signals that arrive while it starts are merged into one, and SIGUSR2 takes precedence over SIGHUP.
        """
        if self.asked is not signal.SIGUSR2:
            self.asked = number
        _log.info("signal_kept", signal=number.name, successor=self.pid)
        if self.accepts:
            self._pass_on()

    def stop(self) -> None:
        """Terminate it unless it has taken over: stopping this process must not leave another in its place."""
        if not self.accepts:
            self.stopped = True
            self.process.terminate()

    def heard(self) -> bool:
        """Read its report; return whether it takes over. If so, forward the pending signal."""
        accepts = bool(os.read(self.ready, 1))
        os.close(self.ready)
        if self.stopped:
            return False
        self.accepts = accepts
        if accepts:
            self._pass_on()
        else:
            _log.error("successor_failed", detail=f"it ended with {self.process.wait()}; see its log lines")
        return self.accepts

    def _pass_on(self) -> None:
        if self.asked is None:
            return
        number = signal.SIGUSR2 if self.installed.has_changed() else self.asked
        self.asked = None
        _log.info("signal_passed_on", signal=number.name, successor=self.pid)
        self.process.send_signal(number)


class Succession:
    """Handle SIGUSR2 and SIGHUP: start a successor, or reload the config in place.

    Args:
        start: start a successor; may raise OSError.
        succeeded: called once the successor accepts connections.
        in_place: reload the config in this process.
        is_ending: return whether this process is stopping.
    """

    def __init__(
        self,
        *,
        start: Callable[[], Successor],
        succeeded: Callable[[Successor], None],
        in_place: Callable[[], None],
        is_ending: Callable[[], bool],
    ) -> None:
        self._start = start
        self._succeeded = succeeded
        self._in_place = in_place
        self._is_ending = is_ending
        self._installation = Installation()
        self._successor: Successor | None = None

    @property
    def starting(self) -> Successor | None:
        """The successor that has not reported yet: call `hear` when its `ready` is readable."""
        successor = self._successor
        return None if successor is None or successor.accepts else successor

    def take_up(self, number: signal.Signals) -> None:
        """Handle a signal: start a successor on SIGUSR2, or on SIGHUP if another program is installed; else reload."""
        if number is signal.SIGUSR2 or self._installation.has_changed():
            self._begin(number)
            return
        if self._successor is not None:
            self._successor.ask(number)
        self._in_place()

    def _begin(self, number: signal.Signals) -> None:
        if self._successor is not None:
            self._successor.ask(number)  # a successor is starting: it has to start its own
        elif not self._is_ending():
            self._try()

    def _try(self) -> None:
        try:
            self._successor = self._start()
        except OSError as error:
            _log.error("successor_failed", detail=error.strerror)
            self._in_place()
            return
        _log.info("successor_starts", pid=self._successor.pid)
        if self._is_ending():  # a signal arrived meanwhile
            self._successor.stop()

    def stop(self) -> None:
        """Stop a successor that has not taken over."""
        if self._successor is not None:
            self._successor.stop()

    def hear(self, successor: Successor) -> None:
        """Handle a successor's report; if it failed, reload in place or handle its pending signal here."""
        if successor.heard():
            self._succeeded(successor)
            return
        self._successor = None
        if successor.stopped:
            return
        if successor.asked is None:
            self._in_place()
        else:
            self.take_up(successor.asked)


def start_successor(sock: socket.socket, environment: Mapping[str, str]) -> Successor:
    """Start this program's command again, by its path, so that the program installed now runs.

    Raises:
        OSError: it cannot be started, or this is process 1, with which a container ends.
    """
    if os.getpid() == 1:
        raise OSError(errno.EPERM, "the first process of a container has no successor; start another container")
    read, write = os.pipe()
    installed = Installation()
    variables = {**environment, _SOCKET: str(sock.fileno()), _READY: str(write)}
    command = [sys.executable, *sys.orig_argv[1:]]
    try:
        process = subprocess.Popen(command, env=variables, pass_fds=(sock.fileno(), write))  # noqa: S603 - our own command
    except OSError:
        os.close(read)
        raise
    finally:
        os.close(write)
    return Successor(process, read, installed)


def inherited_socket(environment: Mapping[str, str], pid: int) -> socket.socket | None:
    """Return the socket that a predecessor or a service manager passed to the process `pid`; None without one."""
    number = environment.get(_SOCKET)
    if number is None and environment.get("LISTEN_PID") == str(pid) and held_by_manager(environment):
        number = str(_FIRST_OF_MANAGER)
    if number is None:
        return None
    found = socket.socket(fileno=int(number))
    found.set_inheritable(False)
    return found


def held_by_manager(environment: Mapping[str, str]) -> bool:
    """Return whether a service manager also holds the socket, so that it outlives this process."""
    return environment.get("LISTEN_FDS", "0") != "0"


def start_patience(environment: Mapping[str, str]) -> float:
    """Return the seconds that the start waits for servers: longer if no client is refused meanwhile.

    A successor's predecessor still serves; on a service manager's socket, clients wait in the queue.
    """
    return _PATIENCE if _READY in environment or held_by_manager(environment) else START_SECONDS


def tell_predecessor(environment: Mapping[str, str]) -> None:
    """Report to the predecessor, if any, that connections are accepted."""
    number = environment.get(_READY)
    if number is not None:
        os.write(int(number), b"+")
        os.close(int(number))
