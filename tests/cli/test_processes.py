"""The main path as a user walks it: real processes, real sockets, a database that both sides share."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from functools import partial

import httpx
import pytest

from ollama_router_core.access.tokens import check_format
from ollama_router_core.testing import SimulatorThread
from support.certificates import certificate_for_loopback
from support.orouter import Orouter
from support.waiting import wait_until

CONFIG = "servers: {{big: {{host: 127.0.0.1, port: {port}}}}}\n"


@pytest.fixture
def orouter(tmp_path) -> Orouter:
    """A folder of its own to run commands in."""
    return Orouter(home=tmp_path)


def chat(url: str, token: str) -> httpx.Response:
    """Ask for one answer."""
    body = {"model": "llama3.1:8b", "stream": False, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{url}/api/chat", json=body, headers=headers, timeout=30, trust_env=False)


def wait_for_status(url: str, token: str, wanted: set[int]) -> None:
    """Ask until the answer is as wanted; a failure shows the last one."""
    last: list[httpx.Response] = []

    def asked() -> bool:
        last[:] = [chat(url, token)]
        return last[0].status_code in wanted

    try:
        wait_until(asked, f"an answer with {wanted}")
    except TimeoutError:
        pytest.fail(f"the last answer was {last[0].status_code}: {last[0].text}")


def test_from_the_first_serve_to_the_log(orouter):
    """Serve leaves an admin's token in a file; a user made meanwhile is answered, logged, and out when deactivated."""
    with SimulatorThread(models=["llama3.1:8b"]) as big:
        orouter.config.write_text(CONFIG.format(port=big.port))
        with orouter.start("serve", "--port", "0") as running:
            url = running.listening_url()
            admin_token = (orouter.home / "first-admin-token").read_text().strip()
            assert "first-admin-token" in running.errors.read_text()
            admin = {"Authorization": f"Bearer {admin_token}"}
            told = httpx.get(f"{url}/router/explain?model=llama3.1:8b", headers=admin, trust_env=False)
            assert told.json()["server"] == "big"

            token = orouter.json("users", "create", "alice")["token"]
            wait_for_status(url, token, {200})
            logged = partial(orouter.json, "logs", "list", "--user", "alice")
            wait_until(lambda: bool(logged()), "the request is in the log")
            assert (logged()[0]["model_asked"], logged()[0]["server"]) == ("llama3.1:8b", "big")
            assert orouter.json("logs", "stats")["by_server"][0]["name"] == "big"

            orouter.json("users", "deactivate", "alice")
            wait_for_status(url, token, {401, 403})
        assert running.process.returncode == 0
    assert running.output.read_text().splitlines() == [f"listening on {url}", f"console at {url}/console/"]
    assert not {token, admin_token} & set(running.errors.read_text().split())


def test_a_second_serve_creates_nobody(orouter):
    """The token is printed once in the life of a database."""
    with SimulatorThread() as big:
        orouter.config.write_text(CONFIG.format(port=big.port))
        orouter.json("users", "create", "alice")
        with orouter.start("serve", "--port", "0") as running:
            running.listening_url()
        assert not [word for word in running.errors.read_text().split() if check_format(word)]
    assert [user["name"] for user in orouter.json("users", "list")] == ["alice"]


def test_serve_on_a_taken_port_says_so(orouter):
    """One text that names the port and what to do, exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = orouter.run("serve", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert str(port) in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr
    elsewhere = orouter.run("serve", "--host", "203.0.113.7", "--port", "0")
    assert "--host" in elsewhere.stderr
    assert "Ollama" not in elsewhere.stderr


def test_demo_shows_the_main_job_and_ends(orouter):
    """Two explanations, two streamed answers from two servers, two log rows; nothing is left in the home."""
    before = sorted(orouter.home.iterdir())
    done = orouter.run("demo", "--once", seconds=110)
    assert done.returncode == 0, done.stderr
    assert "X-Router-Server: big" in done.stdout
    assert "X-Router-Server: small" in done.stdout
    assert done.stdout.count("> ") >= 2
    assert done.stdout.count("/api/chat  ") == 4
    assert "Try it" not in done.stdout, "its router is gone"
    assert sorted(orouter.home.iterdir()) == before


def test_demo_stays_until_interrupted_and_takes_its_router_with_it(orouter):
    """The curl and the link it printed work while it stays; Ctrl-C ends it with 0, and nothing listens any more."""
    with orouter.start("demo") as running:
        line = running.wait_for("Authorization: Bearer", seconds=110)
        url = line.split()[1].removesuffix("/v1/chat/completions")
        claim = running.wait_for("/console/#claim=").strip().partition("#claim=")[2]
        body, ours = {"claim": claim}, {"x-console": "1"}
        opened = httpx.post(f"{url}/console/claim", json=body, headers=ours, trust_env=False)
        assert opened.json()["user"] == "demo"
        wait_until(lambda: "Ctrl-C" in running.errors.read_text(), "the demo says that it stays")
        assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=30) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/readyz", trust_env=False)


def test_results_and_notes_do_not_mix(orouter):
    """Standard output holds the result alone, so that a pipe can be trusted."""
    done = orouter.run("users", "list", "--json")
    assert json.loads(done.stdout) == []
    done = orouter.run("users", "list")
    assert done.stdout == ""
    assert done.stderr


def test_a_reader_that_goes_away_is_no_error_of_ours(orouter):
    """`orouter ... | head` ends quietly."""
    pipeline = f"'{sys.executable}' -m ollama_router_cli config show | true; echo done"
    done = subprocess.run(
        ["sh", "-c", pipeline],
        cwd=orouter.home,
        env=orouter.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout == "done\n"


def test_a_file_that_is_no_database_is_one_text(orouter):
    """And stays as it was."""
    file = orouter.home / "router.sqlite3"
    file.write_text("not a database, but precious\n" * 100)
    done = orouter.run("users", "list")
    assert done.returncode == 1
    assert "router.sqlite3" in done.stderr
    assert "Traceback" not in done.stderr
    assert file.read_text().startswith("not a database")


def test_the_database_is_the_owners_alone(orouter):
    """It holds digests and who asked what."""
    orouter.json("users", "create", "alice")
    file = orouter.home / "router.sqlite3"
    assert file.stat().st_mode & 0o077 == 0
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,)
    connection.close()


def test_status_and_top_believe_the_certificate_of_their_config(orouter):
    """Whatever name it was made for: one for llm.example.org, or of nobody known, is no reason to look away."""
    certificate = certificate_for_loopback(orouter.home)
    with SimulatorThread() as big, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        tls = f"proxy_port: {port}\ntls: {{certificate: {certificate}}}\n"
        orouter.config.write_text(CONFIG.format(port=big.port) + tls)
        with orouter.start("serve") as running:
            running.listening_url()
            assert f"running at https://127.0.0.1:{port}" in orouter.run("status").stdout
            token = orouter.json("users", "create", "ops", "--role", "viewer")["token"]
            seen = orouter.run("top", "--once", stdin=f"{token}\n")
            assert (seen.returncode, seen.stderr) == (0, "")
