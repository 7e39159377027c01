"""The two checks before every route: the Host header and the Origin.

A server on loopback accepts only its own possible names and addresses, and only pages from known origins; anything else
is an empty 403.
"""

from __future__ import annotations

import ipaddress
import re
import socket

__all__ = ["is_allowed_host", "is_allowed_origin"]

_LOCAL_ENDINGS = (".localhost", ".local", ".internal")
_LOCAL_ORIGIN = re.compile(r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0)(:\d+)?")
_APP_SCHEMES = ("app://", "file://", "tauri://", "vscode-webview://", "vscode-file://")


def is_allowed_host(header: str) -> bool:
    """Return whether a Host header is allowed for a server on loopback."""
    host = _without_port(header).lower()
    if not host or host in {"localhost", socket.gethostname().lower()} or host.endswith(_LOCAL_ENDINGS):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def is_allowed_origin(origin: str, host: str) -> bool:
    """Return whether a web page from `origin` may use a server with the Host field `host`."""
    if origin in {f"http://{host}", f"https://{host}"} or origin.startswith(_APP_SCHEMES):
        return True
    return _LOCAL_ORIGIN.fullmatch(origin) is not None


def _without_port(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if header.count(":") == 1 else header
