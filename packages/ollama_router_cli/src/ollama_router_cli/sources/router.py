"""Requests to a running router's own routes."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.sources.settings_source import Settings, read_settings
from ollama_router_cli.sources.token import read_token
from ollama_router_server.http.certificates import trust_in
from ollama_router_server.process.router_address import read_address

if TYPE_CHECKING:
    import httpx

__all__ = ["ask_router", "client_at", "own_trust", "router_client", "router_url", "segment", "stream_router"]


def segment(name: str) -> str:
    """Encode a name as one segment of a path."""
    return quote(name, safe="")


def router_url(url: str) -> str:
    """Complete a router's address: the defaults are `http` and port 11434.

    Raises:
        ConfigError: the text is not an address.
    """
    address = read_address(url)
    return f"{address.origin.scheme}://{address.origin.authority}{address.prefix}"


def own_trust(settings: Settings) -> ssl.SSLContext | bool:
    """Trust only the certificate of this config's router, whatever name it was issued for."""
    certificate = settings.config.tls.certificate
    return True if certificate is None else trust_in(certificate)


def client_at(url: str, token: str, trust: ssl.SSLContext | bool) -> httpx.Client:
    """Create a client of the router at this address; it ignores the proxies of the environment."""
    import httpx  # noqa: PLC0415 - most commands ask no router; it takes a quarter of the time of a start

    headers = {"authorization": f"Bearer {token}"}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, verify=trust)


@contextmanager
def router_client(
    *, url: str | None, token_file: Path | None, config: Path | None, environment: str | None
) -> Iterator[httpx.Client]:
    """Open a client of the router at `url`, by default the config's, with a token.

    Raises:
        ConfigError: the address, or the config that contains it, cannot be read.
        CommandFailed: there is no token.
    """
    trust: ssl.SSLContext | bool = True
    if url is None:
        settings = read_settings(config, environment)
        address, trust = settings.router_url, own_trust(settings)
    else:
        address = router_url(url)
    with client_at(address, read_token(token_file), trust) as client:
        yield client


def ask_router(
    client: httpx.Client, path: str, method: str = "GET", *, body: Mapping[str, Any] | None = None, **query: Any
) -> dict[str, Any]:
    """Request a JSON object from one of the router's own routes; None values in query and body are omitted.

    Raises:
        CommandFailed: there is no response, the router refuses (with its message), or another program answers.
    """
    import httpx  # noqa: PLC0415 - it is there

    try:
        sent = None if body is None else _given(body)
        answer = client.request(method, path, params=_given(query), json=sent)
    except httpx.HTTPError as error:
        raise _silent(client, error) from None
    return _document(client, answer)


def stream_router(client: httpx.Client, path: str, **query: Any) -> Iterator[str]:
    """Stream text from one of the router's own routes; None values in `query` are omitted.

    Raises:
        CommandFailed: see `ask_router`; or the text is truncated.
    """
    import httpx  # noqa: PLC0415 - it is there

    try:
        with client.stream("GET", path, params=_given(query)) as answer:
            if answer.is_error:
                answer.read()
                _document(client, answer)
            yield from answer.iter_text()
    except httpx.HTTPError as error:
        raise _silent(client, error) from None


class _Object(dict[str, Any]):
    """The JSON object of a response; fields that an older router does not send are missing."""

    def __missing__(self, key: str) -> NoReturn:
        raise CommandFailed(
            f"the router's answer has no {key!r}: router and command have different versions; use --json"
        )


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _silent(client: httpx.Client, error: httpx.HTTPError) -> CommandFailed:
    return CommandFailed(f"no router answers at {client.base_url}: {str(error) or type(error).__name__}")


def _document(client: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of a response; raise for the router's refusals and other programs' responses."""
    try:
        document = json.loads(answer.content, object_hook=_Object)
    except ValueError:
        raise CommandFailed(f"another program, not the router, answers at {client.base_url}") from None
    if not isinstance(document, dict) or (answer.is_error and "code" not in document):
        raise CommandFailed(f"another program, not the router, answers at {client.base_url}")
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        raise CommandFailed("the router rejected the token")
    if answer.is_error:
        raise CommandFailed(f"the router refused: {document['error']}")
    return document
