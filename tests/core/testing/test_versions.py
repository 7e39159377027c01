"""A simulated server of any version has the routes of that version, by one setting."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator

pytestmark = pytest.mark.anyio

TABLE = json.loads((Path(__file__).parents[1] / "api" / "ollama_routes.json").read_text())["routes"]
DIGEST = "sha256:" + "0" * 64


def numbers(version: str) -> tuple[int, ...]:
    """A version as it is compared."""
    return tuple(int(part) for part in version.split("."))


@pytest.mark.parametrize("version", ["0.12.0", "0.20.0", "0.30.0", "0.33.0", "0.40.8"])
async def test_a_version_has_its_routes(sim: OllamaSimulator, http: httpx.AsyncClient, version: str) -> None:
    """Each route of the table of Ollama's versions is there or is the text 404 or 405, as in that version."""
    sim.version = version
    wrong = []
    for row in TABLE:
        since, gone = row.get("since"), row.get("gone")
        has = (since is None or numbers(since) <= numbers(version)) and not (gone and numbers(gone) <= numbers(version))
        path = row["path"].replace("{digest}", DIGEST)
        answer = await http.request(row["method"], path)
        missing = answer.status_code in {404, 405} and answer.headers["content-type"] == "text/plain"
        if missing == has:
            wrong.append((row["method"], path, answer.status_code))
    assert wrong == []
