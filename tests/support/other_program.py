"""A web server that is no Ollama: what stands behind a wrong port."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["other_program"]


class _NotFound(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *_arguments: object) -> None:  # noqa: A002 - the base class's name
        del format


@contextmanager
def other_program(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answers everything with 404, over TLS where it is given; gives its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _NotFound) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
