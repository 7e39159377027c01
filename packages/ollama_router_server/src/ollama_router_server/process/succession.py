"""A successor: the program started anew on the socket that this process listens on.

The socket is inherited, so the kernel's queue of connections is both processes'. The successor writes one byte to a
pipe when it accepts connections; at end of file without it, it has failed. Service managers pass sockets in the same
way (`LISTEN_FDS`).

    this process --fork, exec--> successor        successor --"+"--> this process, which stops to accept
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
"""Seconds that such a start gives servers to answer, though each has answered or failed within `probe_timeout`: a
router that knows of none yet would refuse what others would not."""


_log = structlog.get_logger("serve")


class Successor(Struct, eq=False):
    """A program that starts, and what is asked for meanwhile.

    Attributes:
        process: it.
        ready: a pipe's read end: a byte once it accepts, end of file if it never will.
        installed: what it began to start as.
        asked: SIGHUP or SIGUSR2, which this process received since; None where neither came.
        accepts: whether it takes connections.
        stopped: it was told to end, as this process was.
    """

    process: subprocess.Popen[bytes]
    ready: int
    installed: Installation
    asked: signal.Signals | None = None
    accepts: bool = False
    stopped: bool = False

    @property
    def pid(self) -> int:
        """Of its process."""
        return self.process.pid

    def ask(self, number: signal.Signals) -> None:
        """Have it do what a signal asked this process for, once it can: it may have read what was there before.

        However many come while it starts, they are one, and a successor is more than a reload.
        """
        if self.asked is not signal.SIGUSR2:
            self.asked = number
        _log.info("signal_kept", signal=number.name, successor=self.pid)
        if self.accepts:
            self._pass_on()

    def stop(self) -> None:
        """End it, unless it has taken over: who stops this process wants no other in its place."""
        if not self.accepts:
            self.stopped = True
            self.process.terminate()

    def heard(self) -> bool:
        """Read its answer, and return whether it goes on in this one's place; then it gets what it was asked for."""
        told = bool(os.read(self.ready, 1))
        os.close(self.ready)
        if self.stopped:
            return False
        self.accepts = told
        if told:
            self._pass_on()
        else:
            _log.error("successor_failed", detail=f"it ended with {self.process.wait()}; its own lines say why")
        return self.accepts

    def _pass_on(self) -> None:
        if self.asked is None:
            return
        number = signal.SIGUSR2 if self.installed.has_changed() else self.asked
        self.asked = None
        _log.info("signal_passed_on", signal=number.name, successor=self.pid)
        self.process.send_signal(number)


class Succession:
    """Starts a successor where a signal asks for one; where none comes, the config is read in place.

    Args:
        start: starts one; may raise OSError.
        succeeded: called once it accepts connections.
        in_place: has this process read the config again.
        is_ending: whether this process is told to end.
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
        """The successor that has not told yet whether it goes on: `hear` it when its `ready` can be read."""
        successor = self._successor
        return None if successor is None or successor.accepts else successor

    def take_up(self, number: signal.Signals) -> None:
        """Take up what is there now: on SIGUSR2 with a successor, on SIGHUP with one only if the program is another."""
        if number is signal.SIGUSR2 or self._installation.has_changed():
            self._begin(number)
            return
        if self._successor is not None:
            self._successor.ask(number)
        self._in_place()

    def _begin(self, number: signal.Signals) -> None:
        if self._successor is not None:
            self._successor.ask(number)  # one that starts already is to have one of its own
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
        if self._is_ending():  # by a signal while it was being started
            self._successor.stop()

    def stop(self) -> None:
        """End a successor that has not taken over."""
        if self._successor is not None:
            self._successor.stop()

    def hear(self, successor: Successor) -> None:
        """Read what a successor tells; what it was asked for and cannot do is done here."""
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
    """Start this program's command again, by its path: what is installed there now.

    Raises:
        OSError: it cannot be started, or could not go on: a container ends with its first process.
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
    """Return the socket that a predecessor or a service manager gave to the process `pid`; None where nobody did."""
    number = environment.get(_SOCKET)
    if number is None and environment.get("LISTEN_PID") == str(pid) and held_by_manager(environment):
        number = str(_FIRST_OF_MANAGER)
    if number is None:
        return None
    found = socket.socket(fileno=int(number))
    found.set_inheritable(False)
    return found


def held_by_manager(environment: Mapping[str, str]) -> bool:
    """Whether a service manager holds the socket, too: then it outlives this process, whoever inherited it."""
    return environment.get("LISTEN_FDS", "0") != "0"


def start_patience(environment: Mapping[str, str]) -> float:
    """Seconds that the start waits for servers: more than usual where nobody is refused meanwhile.

    A successor's predecessor serves; on a service manager's socket clients wait.
    """
    return _PATIENCE if _READY in environment or held_by_manager(environment) else START_SECONDS


def tell_predecessor(environment: Mapping[str, str]) -> None:
    """Say that connections are accepted; without effect where there is no predecessor."""
    number = environment.get(_READY)
    if number is not None:
        os.write(int(number), b"+")
        os.close(int(number))
