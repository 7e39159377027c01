"""TLS spoken by the router itself."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from ollama_router_core.testing import SimulatorThread
from support.orouter import Orouter
from support.waiting import wait_until
from support.workers import served

MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def make_certificate(folder: Path, name: str) -> dict[str, str]:
    """A certificate for 127.0.0.1, as the settings name it."""
    certificate, key = folder / "router.pem", folder / "router.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return {"certificate": str(certificate), "key": str(key)}


def shown_certificate(port: int) -> str:
    """What a new connection is shown, as PEM."""
    return ssl.get_server_certificate(("127.0.0.1", port))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_streams_pass_and_a_renewed_certificate_is_taken_up(tmp_path, workers):
    """The line says https; plain HTTP is no answer; SIGHUP shows the new certificate to whoever connects then."""
    tls = make_certificate(tmp_path, "first")
    with (
        SimulatorThread(models=[MODEL]) as simulator,
        served(tmp_path, {"a": {"host": "127.0.0.1", "port": simulator.port}}, "--workers", workers, tls=tls) as router,
    ):
        assert router.url.startswith("https://127.0.0.1:")
        port = int(router.url.rpartition(":")[2])
        headers = {"authorization": f"Bearer {router.token}"}
        trust = ssl.create_default_context(cafile=tls["certificate"])
        with httpx.Client(base_url=router.url, headers=headers, verify=trust, trust_env=False) as client:
            for _ in range(2):
                with client.stream("POST", "/api/chat", json=CHAT) as answer:
                    assert answer.status_code == 200
                    *_, last = answer.iter_lines()
                assert '"done":true' in last
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.settimeout(10)
            plain.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"HTTP/1.1" not in plain.recv(1000)
        before = shown_certificate(port)
        make_certificate(tmp_path, "second")
        os.kill(router.running.process.pid, signal.SIGHUP)
        wait_until(lambda: shown_certificate(port) != before, "the new certificate")


def test_files_that_cannot_be_used_are_told_at_the_start(tmp_path):
    """Not with a traceback."""
    orouter = Orouter(home=tmp_path)
    orouter.config.write_text("servers: {a: {host: h}}\ntls: {certificate: nowhere.pem}\n")
    done = orouter.run("serve", "--port", "0")
    assert (done.returncode, "tls: cannot use nowhere.pem" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
