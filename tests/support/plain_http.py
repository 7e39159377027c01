"""httpx clients for plain HTTP: they skip loading certificates, which costs more than a whole test."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

__all__ = ["async_client"]

_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def async_client(base_url: str, **options: Any) -> httpx.AsyncClient:
    """A client that ignores the environment's proxies and waits at most 20 seconds."""
    defaults: dict[str, Any] = {"timeout": 20.0, "trust_env": False, "verify": _NO_CERTIFICATES}
    return httpx.AsyncClient(base_url=base_url, **(defaults | options))
