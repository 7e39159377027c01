"""Servers behind a Service, from an API server on loopback."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ollama_router_core.config import FoundServer
from ollama_router_core.config.discovery_settings import Discovery
from ollama_router_core.errors import RouterError
from ollama_router_server.fleet.discovery.finder import LookFailed
from ollama_router_server.fleet.discovery.kubernetes import KubernetesFinder
from ollama_router_server.upstream.engine import HttptoolsUpstream
from support.certificates import certificate_for_loopback

pytestmark = pytest.mark.anyio

SELECTOR = "kubernetes.io/service-name=ollama"
PORTS = [{"name": "metrics", "port": 9090}, {"name": "http", "port": 11434}]


def endpoint(address: str, pod: str | None = None, *, ready: bool | None = True) -> dict[str, Any]:
    """One pod of a slice."""
    target = {} if pod is None else {"targetRef": {"kind": "Pod", "name": pod}}
    return {"addresses": [address], "conditions": {"ready": ready}, **target}


PAGES = {
    "": {
        "metadata": {"continue": "more"},
        "items": [{"ports": PORTS, "endpoints": [endpoint("10.1.0.1", "ollama-0"), endpoint("10.1.0.2", ready=False)]}],
    },
    "more": {
        "metadata": {},
        "items": [
            {"ports": PORTS, "endpoints": [endpoint("10.1.0.3", ready=None)]},
            {"ports": None, "endpoints": None},
        ],
    },
}


class ApiServer(BaseHTTPRequestHandler):
    """Answers for one namespace and one token."""

    def do_GET(self) -> None:
        """Answer a page, or 403."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        known = url.path == "/apis/discovery.k8s.io/v1/namespaces/ai/endpointslices"
        if self.headers["authorization"] != "Bearer of-the-pod" or not known or query["labelSelector"] != SELECTOR:
            self._answer(403, {"kind": "Status"})
        else:
            self._answer(200, PAGES[query.get("continue", "")])

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Print nothing."""


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A service account's folder and the environment of a pod."""
    certificate = certificate_for_loopback(tmp_path)
    account = tmp_path / "serviceaccount"
    account.mkdir()
    (account / "ca.crt").write_bytes(certificate.with_suffix(".crt").read_bytes())
    (account / "namespace").write_text("ai")
    (account / "token").write_text("of-the-pod\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), ApiServer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    host, port = server.server_address[:2]
    yield account, {"KUBERNETES_SERVICE_HOST": str(host), "KUBERNETES_SERVICE_PORT": str(port)}
    server.shutdown()
    thread.join()
    server.server_close()


async def look(account: Path, environment: dict[str, str], **settings: Any) -> tuple[FoundServer, ...]:
    """What is found."""
    upstream = HttptoolsUpstream()
    discovery = Discovery.model_validate({"kubernetes": {"selector": SELECTOR, **settings}})
    try:
        return await KubernetesFinder(discovery, upstream, environment, str(account)).look()
    finally:
        await upstream.aclose()


async def test_ready_endpoints_of_every_page_are_servers(pod: tuple[Path, dict[str, str]]) -> None:
    """By the pod's name where there is one, at the port that the settings name."""
    found = await look(*pod, port="http")
    assert [(one.name, one.settings.host, one.settings.port) for one in found] == [
        ("ollama-0", "10.1.0.1", 11434),
        ("10.1.0.3", "10.1.0.3", 11434),
    ]
    assert {one.settings.port for one in await look(*pod)} == {9090}


async def test_a_refusal_says_what_the_account_needs(pod: tuple[Path, dict[str, str]]) -> None:
    """The token is not shown."""
    account, environment = pod
    (account / "token").write_text("of-another")
    with pytest.raises(LookFailed, match="needs list of endpointslices") as refused:
        await look(account, environment)
    assert "of-another" not in str(refused.value)


async def test_outside_of_a_cluster_it_fails_in_words(pod: tuple[Path, dict[str, str]]) -> None:
    """Neither variables nor the account are there; or the API server does not answer."""
    account, environment = pod
    with pytest.raises(LookFailed, match="no pod of Kubernetes"):
        await look(account, {})
    with pytest.raises(LookFailed, match="No such file"):
        await look(account / "nowhere", environment)
    with pytest.raises(RouterError, match="Kubernetes API server"):
        await look(account, {**environment, "KUBERNETES_SERVICE_PORT": "1"})
