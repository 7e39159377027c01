"""What the tests with agents and libraries of others share: the router, its hosts, where the programs are installed."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from support.desk import Desk, run_desk
from support.scripted_hosts import Dialect


@pytest.fixture(scope="session")
def installed() -> Path:
    """The folder that `nox -s agents` installs into: `js/` with the scripts and packages, `aider/`."""
    folder = os.environ.get("AGENTS_FOLDER")
    if folder is None:
        pytest.fail("run `nox -s agents`, which installs the programs and says where they are")
    return Path(folder)


@pytest.fixture(scope="session")
def _desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with run_desk(tmp_path_factory.mktemp("desk")) as running:
        yield running


@pytest.fixture
def desk(_desk: Desk) -> Iterator[Desk]:
    """A router and its hosts, which refuse nothing during the test."""
    for host in _desk.hosts.values():
        host.forget()
    yield _desk
    assert [text for host in _desk.hosts.values() for text in host.refusals] == []


@pytest.fixture(params=Dialect)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """What the host of the model speaks."""
    return Dialect(request.param)


class _Outside(BaseHTTPRequestHandler):
    """The proxy to everywhere else: refuses, and remembers who was asked for."""

    asked: ClassVar[list[str]]

    def handle_one_request(self) -> None:
        line = self.rfile.readline().decode("latin-1")
        self.asked.append(line.strip())
        self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n")
        self.close_connection = True


@pytest.fixture(scope="module")
def _elsewhere() -> Iterator[tuple[list[str], dict[str, str]]]:
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Outside", (_Outside,), {"asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy = f"http://127.0.0.1:{server.server_address[1]}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    here = "127.0.0.1,localhost"
    yield asked, {**dict.fromkeys(names, proxy), "NO_PROXY": here, "no_proxy": here}
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def outside(_elsewhere: tuple[list[str], dict[str, str]]) -> dict[str, str]:
    """Variables of a program that must reach nothing but 127.0.0.1."""
    return _elsewhere[1]


@pytest.fixture(autouse=True)
def _nothing_outside(_elsewhere: tuple[list[str], dict[str, str]]) -> Iterator[None]:
    """Whatever a program asks of any other address fails the test, and is not sent."""
    asked, _ = _elsewhere
    asked.clear()
    yield
    assert not asked, asked


def png(width: int = 64, height: int = 48) -> bytes:
    """A picture in one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = zlib.compress((b"\0" + b"\xc8\x1e\x1e" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A PNG of 64 x 48 pixels."""
    return png()
