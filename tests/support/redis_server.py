"""A private Redis, or Valkey, for tests: without any durability, reached through a socket in a folder of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from support.waiting import wait_until

__all__ = ["RedisServer", "find_server", "running_redis"]


def find_server() -> str | None:
    """The program on this machine."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """A server that can be frozen, stopped and started again."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder}/redis.sock"

    def start(self, *options: str) -> None:
        """Start it empty, and wait until it answers."""
        command = [self._program, "--port", "0", "--unixsocket", str(self._folder / "redis.sock"), "--save", ""]
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen([*command, *options], cwd=self._folder, stdout=log, stderr=log)
        wait_until(self._answers, "Redis answers")

    def _answers(self) -> bool:
        with suppress(redis.ConnectionError), self.client() as client:
            return bool(client.ping())
        return False

    def client(self) -> redis.Redis:
        """A connection to look with; use it as a context manager."""
        return redis.Redis.from_url(self.url)

    def freeze(self) -> None:
        """Answer nothing, without closing anything."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it at once; what it knew is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def running_redis(program: str) -> Iterator[RedisServer]:
    """A server that runs until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="router-redis-"))
    server = RedisServer(program, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
