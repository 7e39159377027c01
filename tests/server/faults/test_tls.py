"""External hosts over TLS with a real certificate: nothing is sent to a host that cannot prove its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.certificates import certificate_for_loopback, server_tls
from support.faulty_ollama import chunk, length_of
from support.router import RunningRouter, running_router
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

BODY = {"model": "hosted", "messages": [{"role": "user", "content": "hello"}], "stream": True}
EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh key and a self-signed certificate for 127.0.0.1, in one file."""
    return certificate_for_loopback(tmp_path_factory.mktemp("tls"))


async def provider(peer: Peer) -> None:
    """A provider that streams one event and ends."""
    while True:
        head = await peer.head()
        await peer.body(length_of(head))
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.send(chunk(EVENT), chunk(b"data: [DONE]\n\n"), chunk(b""))


def hosted(server: ScriptedServer) -> dict[str, object]:
    """Settings under which `hosted` is a model of that provider."""
    host = {"host": "127.0.0.1", "port": server.port, "api_key_env": "PROVIDER_KEY"}
    return {"external_hosts": {"p": host}, "model_config": {"explicit_assignments": {"hosted": "p"}}}


async def ask(router: RunningRouter) -> tuple[int, bytes]:
    """One streamed request."""
    async with router.client() as client:
        answer = await client.post("/v1/chat/completions", json=BODY)
        return answer.status_code, answer.content


@pytest.mark.warm_only
async def test_a_trusted_host_gets_its_key_over_tls(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's certificates decide, here by OpenSSL's variable; connections are used again."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with (
        ScriptedServer(provider, tls=server_tls(certificate)) as server,
        running_router(tmp_path, {}, environment={"PROVIDER_KEY": "key-of-ours"}, **hosted(server)) as router,
    ):
        answers = [await ask(router) for _ in range(3)]
    assert answers == [(200, EVENT + b"data: [DONE]\n\n")] * 3
    assert len(server.peers) == 1
    assert b"key-of-ours" in server.peers[0].received


async def test_an_untrusted_host_gets_nothing(tmp_path: Path, certificate: Path) -> None:
    """502 that says why, and no byte of the request leaves."""
    async with (
        ScriptedServer(provider, tls=server_tls(certificate)) as server,
        running_router(tmp_path, {}, environment={"PROVIDER_KEY": "key-of-ours"}, **hosted(server)) as router,
    ):
        status, body = await ask(router)
    assert status == 502
    assert b"not trusted" in body
    assert not any(peer.received for peer in server.peers)


async def test_a_certificate_for_another_name_is_none(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trusted, but for 127.0.0.1: `localhost` is somebody else."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with ScriptedServer(provider, tls=server_tls(certificate)) as server:
        settings = hosted(server)
        settings["external_hosts"] = {"p": {"host": "localhost", "port": server.port}}
        async with running_router(tmp_path, {}, **settings) as router:
            status, _ = await ask(router)
    assert status == 502
    assert not any(peer.received for peer in server.peers)
