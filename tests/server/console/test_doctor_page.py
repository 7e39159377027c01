"""The page Doctor: each finding with how grave it is and what fixes it, as `GET /router/doctor` tells them."""

from __future__ import annotations

import json
import re
import time
from email.utils import formatdate
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from ollama_router_core.testing import OllamaSimulator, exchange, model
from ollama_router_server.admin.doctor import machine_findings
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

SMALLER = "a smaller request_log.keep_days"
BROKEN = {
    ("server gone", "warning", "orouter status"),  # nobody listens there
    ("server drained", "warning", "orouter servers undrain drained"),
    ("server old", "warning", "timedatectl set-ntp true"),  # its clock is an hour behind
    ("servers", "warning", "curl -fsSL https://ollama.com/install.sh | sh on the older ones"),
    ("models", "warning", "orouter models pull llama3.1:8b --to SERVER"),  # two models of one name
    ("discovery file:FOLDER/none.yml", "warning", "orouter doctor, on the router's machine"),
    ("config", "warning", "orouter servers list"),  # an assignment to a server that is nowhere
    ("config", "warning", "systemctl edit ollama-router (Environment=), or api_key_file"),
    ("config", "warning", "tls: {certificate: FILE, key: FILE} in the config, or trusted_proxies: [ADDRESS]"),
    ("database", "warning", "chmod 600 FOLDER/router.sqlite3"),
    (
        "disk",
        "error",
        f"orouter logs cleanup, and {SMALLER}; then, without routers: sqlite3 FOLDER/router.sqlite3 VACUUM",
    ),
    ("request log", "warning", "orouter db status"),
    ("open files", "warning", "LimitNOFILE=65536 in the unit, or: ulimit -n 65536"),
}


class Cells(HTMLParser):
    """The text of each cell of a table's rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """A row or a cell begins."""
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        """A cell ends."""
        self._inside = self._inside and tag != "td"

    def handle_data(self, data: str) -> None:
        """Text of a cell."""
        if self._inside:
            self.rows[-1][-1] += data


def still(text: str | None, folder: Path) -> str:
    """A text without what differs between two looks or two machines."""
    return re.sub(r"\d+(\.\d+)?", "N", (text or "").replace(str(folder), "FOLDER")).strip()


async def test_the_page_shows_every_finding_with_what_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirteen things are wrong at once: the page has them all, and what the API tells, word for word."""
    monkeypatch.setattr(machine_findings.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    monkeypatch.setattr(machine_findings, "most_connections", lambda: 100)
    (tmp_path / "none.yml").write_text("{}")
    (tmp_path / "router.sqlite3.spill").mkdir()
    config = {
        "discovery": {"files": [str(tmp_path / "none.yml")]},
        "model_config": {"explicit_assignments": {"llama3.1:8b": "nowhere"}},
        "external_hosts": {"far": {"host": "api.example", "api_key_env": "MISSING_KEY"}},
        "proxy_host": "0.0.0.0",
    }
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")], version="0.11.0") as old,
        OllamaSimulator(models=[model("llama3.1:8b", digest="0" * 64)]) as drained,
    ):
        servers = {
            "old": server_entry(old),
            "drained": server_entry(drained, drain=True),
            "gone": {"host": "127.0.0.1", "port": 9},
        }
        async with running_router(tmp_path, servers, **config) as router:
            (tmp_path / "router.sqlite3").chmod(0o644)
            (tmp_path / "router.sqlite3.spill" / "a.jsonl").write_text("{}\n")
            ago = formatdate(time.time() - 3_600, usegmt=True)
            monkeypatch.setattr(exchange, "formatdate", lambda **_: ago)
            async with router.client(router.admin_token) as admin, router.client("") as browser:
                told = (await admin.get("/router/doctor")).json()
                await browser.post("/console/session", json={"token": router.admin_token}, headers={"x-console": "1"})
                page = (await browser.get("/console/doctor", headers={"accept": "text/html"})).text
    rows = [[still(cell, tmp_path) for cell in row] for row in Cells(page).rows if len(row) == 4]
    findings = [
        [still(one[key], tmp_path) for key in ("severity", "subject", "reason", "fix")] for one in told["findings"]
    ]
    assert rows == findings
    wanted = {(subject, severity, still(fix, tmp_path)) for subject, severity, fix in BROKEN}
    assert wanted - {(subject, severity, fix) for severity, subject, _, fix in rows} == set()
    assert all(reason for _, _, reason, _ in rows)
    wrong = sum(row[0] != "ok" for row in rows)
    assert f"<h1>{wrong} things to look at</h1>" in page
    assert json.dumps(told["ok"]) == "false"
