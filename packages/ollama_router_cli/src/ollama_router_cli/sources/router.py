"""Ask a running router for what only viewers and admins may know."""

from __future__ import annotations

import getpass
import os
import re
import ssl
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.sources.settings import Settings
from ollama_router_server.process.connect import read_address

__all__ = ["ask_router", "own_trust", "read_token", "router_url"]

_TOKEN = re.compile(r"[!-~]{1,72}", re.ASCII)
_REFUSED = frozenset({401, 403})


def router_url(url: str) -> str:
    """Complete a router's address: `http` and port 11434 where it has no scheme.

    Raises:
        ConfigError: the text is not an address.
    """
    address = read_address(url)
    return f"{address.origin.scheme}://{address.origin.authority}{address.prefix}"


def own_trust(settings: Settings) -> ssl.SSLContext | bool:
    """Trust the certificate that the router of this config presents, and only that, whatever name it was issued for."""
    certificate = settings.config.tls.certificate
    if certificate is None:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with suppress(OSError):  # reported as a certificate that cannot be verified
        context.load_verify_locations(certificate)
    return context


def read_token(file: Path | None) -> str:
    """Read a token from a file, else from OROUTER_TOKEN, else from a prompt or a pipe.

    Raises:
        CommandFailed: there is none, or the file cannot be read.
    """
    if file is not None:
        text = _read(file)
    elif "OROUTER_TOKEN" in os.environ:
        text = os.environ["OROUTER_TOKEN"]
    elif sys.stdin.isatty():
        text = getpass.getpass("Token: ")
    else:
        text = sys.stdin.readline()
    if not _TOKEN.fullmatch(text.strip()):
        raise CommandFailed("no token: pass --token-file FILE, set OROUTER_TOKEN, or type it at the prompt")
    return text.strip()


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CommandFailed(f"cannot read {file}: {error.strerror}") from None


def ask_router(client: httpx.Client, path: str) -> dict[str, Any]:
    """Fetch a JSON object from one of the router's own routes.

    Raises:
        CommandFailed: nothing answers, the token is not a viewer's or an admin's, or another program answers there.
    """
    try:
        answer = client.get(path)
        document = answer.json() if answer.status_code == 200 else None
    except httpx.HTTPError as error:
        raise CommandFailed(f"no router answers at {client.base_url}: {str(error) or type(error).__name__}") from None
    except ValueError:
        raise CommandFailed(f"no router answers at {client.base_url}: another program does") from None
    if answer.status_code in _REFUSED:
        raise CommandFailed("the router rejected the token; it must be a viewer's or an admin's")
    if not isinstance(document, dict):
        raise CommandFailed(f"no router answers at {client.base_url}: another program does")
    return document
