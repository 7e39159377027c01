"""What others make of the same bytes: h11 in-process, nginx and haproxy as real proxies."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h11

from support.strict_front import read_to_end
from support.waiting import wait_until

__all__ = ["h11_accepts", "proxy_accepts", "running_haproxy", "running_nginx"]

_NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 256; }}
http {{
  access_log off; large_client_header_buffers 4 64k; client_header_buffer_size 64k; underscores_in_headers on;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{backend}; proxy_http_version 1.1; proxy_set_header Host backend;
      proxy_ignore_client_abort on;
    }}
  }}
}}
"""

_HAPROXY = """
global
  tune.bufsize 131072
  tune.http.maxhdr 200
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
  option http-buffer-request
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  http-request set-header Host backend
  server s 127.0.0.1:{backend}
"""


def h11_accepts(data: bytes) -> bool:
    """Whether h11 reads one or more complete requests and finds nothing wrong."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
    connection.receive_data(data)
    complete = 0
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return complete > 0 and connection.their_state is h11.IDLE
            if event is h11.PAUSED:
                complete += 1
                if connection.their_state is not h11.DONE:
                    return True
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return True
                connection.start_next_cycle()
            elif isinstance(event, h11.EndOfMessage) and not connection.trailing_data[0]:
                return True
    except h11.RemoteProtocolError:
        return False


def proxy_accepts(port: int, data: bytes) -> bool:
    """Whether a proxy answers these bytes, and everything with success."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        answer = read_to_end(sock)
    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    return bool(statuses) and all(status == b"200" for status in statuses)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or _listens(port), f"{command[0]} to listen")
        assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _executable(name: str) -> str | None:
    return shutil.which(name) or shutil.which(f"/usr/sbin/{name}")


@contextlib.contextmanager
def running_nginx(folder: Path, backend: int) -> Iterator[int | None]:
    """The port of an nginx in front of a backend, or None where nginx is not installed."""
    executable = _executable("nginx")
    if executable is None:
        yield None
        return
    port = _free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, backend=backend), encoding="utf-8")
    with _running([executable, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)], port):
        yield port


@contextlib.contextmanager
def running_haproxy(folder: Path, backend: int) -> Iterator[int | None]:
    """The port of a haproxy in front of a backend, or None where haproxy is not installed."""
    executable = _executable("haproxy")
    if executable is None:
        yield None
        return
    port = _free_port()
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, backend=backend), encoding="utf-8")
    with _running([executable, "-db", "-f", str(config)], port):
        yield port
