"""Listening sockets, and the lines that say where the router listens."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Final, TextIO

from ollama_router_core.errors import ConfigError

if TYPE_CHECKING:
    from ollama_router_core.config.settings import Config

__all__ = ["console_url", "listen", "print_listening"]

_UNSENT_BYTES: Final = 128 * 1024
"""Unsent bytes that the kernel buffers per connection. Its default is megabytes; a few hundred clients that do not read
would exhaust the kernel's memory for sockets."""
_HINTS: Final = {
    errno.EADDRINUSE: "is another program (Ollama?) using it? choose another with --port or proxy_port",
    errno.EACCES: "ports below 1024 need a privilege; choose another with --port or proxy_port",
}


def listen(host: str, port: int) -> socket.socket:
    """Bind a TCP socket; port 0 picks a free port.

    Raises:
        ConfigError: the address cannot be used; the message gives the reason.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm only if the protocol is named; without that, responses are 40 ms late.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)  # accepted sockets inherit it
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        hint = _HINTS.get(error.errno or 0, "choose another address with --host or proxy_host")
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}; {hint}") from None
    return sock


def console_url(sock: socket.socket, config: Config) -> str | None:
    """Return the console's URL for a browser on this machine; None if the config disables the console."""
    if not config.console.enabled:
        return None
    host, port = sock.getsockname()[:2]
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not listened on
    return _console(config, _url(config, local, port))


def _url(config: Config, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if config.tls.certificate is not None else 'http'}://{shown}:{port}"


def _console(config: Config, url: str) -> str:
    return f"{(config.console.public_url or url).rstrip('/')}/console/"


def print_listening(sock: socket.socket, out: TextIO, config: Config) -> None:
    """Print `listening on http://HOST:PORT`, and the console's URL if it is enabled."""
    host, port = sock.getsockname()[:2]
    url = _url(config, host, port)
    print(f"listening on {url}", file=out)
    if config.console.enabled:
        print(f"console at {_console(config, url)}", file=out)
    out.flush()
