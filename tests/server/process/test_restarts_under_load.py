"""A router that is asked all the time: its config changes, a service manager restarts it, and nobody loses anything."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from ollama_router_core.testing import Drip, SimulatorThread
from support.asking import MODEL, PATIENCE, Asker, Router, stream
from support.orouter import Orouter
from support.router import users_in
from support.waiting import wait_until
from support.workers import served

_ACTIVATED = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
    "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
    "os.execv(sys.executable, [sys.executable, '-m', 'ollama_router_cli', 'serve', *sys.argv[2:]])"
)


@dataclass
class Load:
    """Streams that do not end before they are let go, and clients that ask until they are told to stop."""

    router: Router
    simulator: SimulatorThread
    pool: ThreadPoolExecutor
    over: threading.Event = field(default_factory=threading.Event)
    streams: list[Future[bool]] = field(default_factory=list)

    def begin_streams(self, count: int) -> threading.Event:
        """Begin some and wait until all are under way; the event lets them go."""
        ends = threading.Event()
        pace = Drip(seconds=lambda: 0.0 if ends.is_set() or self.over.is_set() else 1.0, size=16)
        self.simulator.simulator.faults.add([pace], path="/api/chat", times=count)
        begun = self.simulator.simulator.in_flight
        self.streams += [self.pool.submit(stream, self.router) for _ in range(count)]
        wait_until(lambda: self.simulator.simulator.in_flight >= begun + count, "they are under way", seconds=PATIENCE)
        return ends

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask while the block runs; then nothing may have been lost."""
        askers = [Asker(self.router, self.over, keeps=number % 2 == 0) for number in range(8)]
        asked = [self.pool.submit(asker) for asker in askers]
        try:
            yield
        finally:
            self.over.set()
        statuses = Counter(status for one in asked for status in one.result(timeout=PATIENCE))
        assert set(statuses) == {200}
        assert statuses[200] >= 160
        assert [one.result(timeout=PATIENCE) for one in self.streams] == [True] * 40


@dataclass
class Activated:
    """A router on a socket that somebody else holds, as systemd does for a unit with a `.socket`."""

    home: Path
    sock: socket.socket
    token: str
    workers: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the socket listens, whoever is behind it."""
        return f"http://127.0.0.1:{self.sock.getsockname()[1]}"

    def client(self) -> httpx.Client:
        """A client with a connection of its own."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, verify=tls, trust_env=False)

    def start(self) -> None:
        """Start it on the socket."""
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _ACTIVATED, str(self.sock.fileno()), "--workers", self.workers],
                pass_fds=(self.sock.fileno(),),
                cwd=self.home,
                env=Orouter(home=self.home).environment(),
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """Have it end in order."""
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(PATIENCE) == 0


@pytest.mark.timeout(900)
def test_three_changes_of_the_config_lose_no_request_and_no_stream(tmp_path: Path) -> None:
    """SIGHUP, with a config in which the server has another name each time: 160 requests, 40 streams, 0 lost."""
    with (
        SimulatorThread(models=[MODEL], num_parallel=64) as simulator,
        ThreadPoolExecutor(48) as pool,
        served(tmp_path, {"a": entry(simulator)}, probe_timeout=PATIENCE) as router,
    ):
        load = Load(router, simulator, pool)
        load.begin_streams(40)
        with load.asking():
            for count, name in enumerate("bcd", start=1):
                router.orouter.config.write_text(json.dumps(config(simulator, name)))
                router.running.process.send_signal(signal.SIGHUP)
                wait_until(lambda count=count: taken_up(router.log()) >= count, "it is taken up", seconds=PATIENCE)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_three_restarts_on_the_service_manager_s_socket_lose_no_request_and_no_stream(
    tmp_path: Path, workers: str
) -> None:
    """SIGTERM and a new process, as `systemctl restart` does: requests wait in the socket, 0 of 160 and 40 lost."""
    with (
        SimulatorThread(models=[MODEL], num_parallel=64) as simulator,
        ThreadPoolExecutor(48) as pool,
        socket.create_server(("127.0.0.1", 0), backlog=1024) as sock,
    ):
        token, _ = asyncio.run(users_in(tmp_path))
        Orouter(home=tmp_path).config.write_text(json.dumps(config(simulator, "a")))
        router = Activated(tmp_path, sock, token, workers)
        load = Load(router, simulator, pool)
        router.start()
        try:
            with load.asking():
                for count in (14, 13, 13):
                    let_go = load.begin_streams(count)
                    threading.Timer(0.5, let_go.set).start()
                    router.stop()
                    router.start()
        finally:
            router.stop()


def entry(simulator: SimulatorThread) -> dict[str, object]:
    """A server of the config, with room for all."""
    return {"host": "127.0.0.1", "port": simulator.port, "num_parallel": 64}


def config(simulator: SimulatorThread, name: str) -> dict[str, object]:
    """A config of one server, with patience for a machine that has other work."""
    return {"servers": {name: entry(simulator)}, "probe_timeout": PATIENCE}


def taken_up(log: list[dict[str, object]]) -> int:
    """How many configs were taken up since the start."""
    return sum(row["event"] == "config_reloaded" for row in log)
