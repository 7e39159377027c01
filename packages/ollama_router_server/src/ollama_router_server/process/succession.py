"""A successor: the program started anew on the socket that this process listens on.

The socket is inherited, so the kernel's queue of connections is both processes'. The successor writes one byte to a
pipe when it accepts connections; at end of file without it, it has failed. Service managers pass sockets in the same
way (`LISTEN_FDS`).

    this process --fork, exec--> successor        successor --"+"--> this process, which stops to accept
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from ollama_router_server.fleet.health_checker import START_SECONDS

__all__ = [
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


class Successor(Struct, frozen=True, eq=False):
    """A program that starts. `ready` is a pipe's read end: a byte once it accepts, end of file if it never will."""

    process: subprocess.Popen[bytes]
    ready: int

    @property
    def pid(self) -> int:
        """Of its process."""
        return self.process.pid


def start_successor(sock: socket.socket, environment: Mapping[str, str]) -> Successor:
    """Start this program's command again, by its path: what is installed there now.

    Raises:
        OSError: it cannot be started.
    """
    read, write = os.pipe()
    variables = {**environment, _SOCKET: str(sock.fileno()), _READY: str(write)}
    command = [sys.executable, *sys.orig_argv[1:]]
    try:
        process = subprocess.Popen(command, env=variables, pass_fds=(sock.fileno(), write))  # noqa: S603 - our own command
    except OSError:
        os.close(read)
        raise
    finally:
        os.close(write)
    return Successor(process, read)


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
