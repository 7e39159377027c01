"""Servers behind TLS whose certificate is signed by an authority of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.certificates import certificate_for_loopback, server_tls
from support.eventually import eventually
from support.faulty_ollama import MODEL, facts_of, length_of, whole
from support.router import running_router
from support.scripted_server import Peer, ScriptedServer

pytestmark = pytest.mark.anyio

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}


async def _answer(peer: Peer) -> None:
    """An Ollama under the path `/ollama`."""
    while True:
        head = await peer.head()
        await peer.body(length_of(head))
        path = head.split(b" ")[1]
        assert path.startswith(b"/ollama/")
        await peer.send(whole(facts_of(path.removeprefix(b"/ollama")) or b'{"done":true,"message":{"content":"x"}}'))


async def test_an_authority_of_ones_own_is_trusted_by_its_file(tmp_path: Path) -> None:
    """`url` with https and a path, `ca_file`: probed, listed and asked like any other server."""
    certificate = certificate_for_loopback(tmp_path)
    async with ScriptedServer(_answer, tls=server_tls(certificate)) as server:
        entry = {"url": f"https://127.0.0.1:{server.port}/ollama", "ca_file": str(certificate.with_suffix(".crt"))}
        async with running_router(tmp_path, {"safe": entry}) as router, router.client() as client:
            await eventually(lambda: router.services.fleet.servers["safe"].up is True)
            answer = await client.post("/api/chat", json=CHAT)
    assert (answer.status_code, answer.headers["x-router-server"]) == (200, "safe")


async def test_without_its_file_the_server_is_down_and_says_why(tmp_path: Path) -> None:
    """A certificate that nobody vouches for is not taken; the reason stands in `status`."""
    certificate = certificate_for_loopback(tmp_path)
    async with ScriptedServer(_answer, tls=server_tls(certificate)) as server:
        entry = {"url": f"https://127.0.0.1:{server.port}/ollama"}
        async with running_router(tmp_path, {"unknown": entry}) as router, router.client() as client:
            await eventually(lambda: router.services.fleet.servers["unknown"].up is False)
            error = router.services.fleet.servers["unknown"].error
            answer = await client.post("/api/chat", json=CHAT)
    assert "certificate" in str(error)
    assert answer.status_code == 503
