"""pull, push, create, copy, delete and blobs."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator

pytestmark = pytest.mark.anyio

GGUF = b"GGUF" + bytes(100)
DIGEST = "sha256:" + hashlib.sha256(GGUF).hexdigest()


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    """The NDJSON lines of an answer."""
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_pull_reports_progress_and_ends_with_success(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """A pull streams manifest, download ticks, verification and success; then the model is there."""
    answer = await http.post("/api/pull", json={"model": "mistral:7b"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    statuses = lines(answer)
    assert statuses[0] == {"status": "pulling manifest"}
    assert [one["status"] for one in statuses[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    ticks = [one for one in statuses if "digest" in one]
    assert ticks[0]["status"] == f"pulling {ticks[0]['digest'].removeprefix('sha256:')[:12]}"
    done = [one["completed"] for one in ticks if "completed" in one]
    assert done == sorted(done)
    assert done[-1] == ticks[0]["total"]
    assert sim.library.find("mistral:7b") is not None


async def test_pull_whole(http: httpx.AsyncClient) -> None:
    """stream=false gives the last status only."""
    answer = await http.post("/api/pull", json={"name": "mistral:7b", "stream": False})
    assert (answer.json(), answer.headers["content-type"]) == ({"status": "success"}, "application/json")


async def test_pull_of_what_does_not_exist(http: httpx.AsyncClient) -> None:
    """Streaming: status 200 with an error line at the end; whole: status 500."""
    error = {"error": "pull model manifest: file does not exist"}
    streamed = await http.post("/api/pull", json={"model": "nope"})
    assert (streamed.status_code, lines(streamed)) == (200, [{"status": "pulling manifest"}, error])
    whole = await http.post("/api/pull", json={"model": "nope", "stream": False})
    assert (whole.status_code, whole.json()) == (500, error)


@pytest.mark.parametrize(
    ("path", "body", "missing"),
    [
        ("/api/chat", {"model": "x:cloud"}, "remote model is unavailable"),
        ("/v1/chat/completions", {"model": "x:cloud", "messages": []}, "remote model is unavailable"),
        ("/v1/messages", {"model": "x-cloud:20b-cloud"}, "remote model is unavailable"),
        ("/api/show", {"model": "x:20b-cloud"}, "remote model details are unavailable"),
        ("/api/experimental/web_search", {"query": "x"}, "web search is unavailable"),
        ("/api/experimental/web_fetch", {"url": "x"}, "web fetch is unavailable"),
    ],
)
async def test_what_a_disabled_cloud_says(
    sim: OllamaSimulator, http: httpx.AsyncClient, path: str, body: dict[str, object], missing: str
) -> None:
    """403 in the native shape on every route, with what is missing, whatever else the body lacks."""
    sim.cloud_disabled = True
    answer = await http.post(path, json=body)
    assert (answer.status_code, answer.json()) == (403, {"error": f"ollama cloud is disabled: {missing}"})


async def test_errors_from_inside_a_stream_have_no_charset(http: httpx.AsyncClient) -> None:
    """A pull that fails and is not streamed is `application/json`; a refused name is not from inside."""
    failed = await http.post("/api/pull", json={"model": "nope", "stream": False})
    refused = await http.post("/api/pull", json={"model": "bad name!", "stream": False})
    assert (failed.status_code, failed.headers["content-type"]) == (500, "application/json")
    assert (refused.status_code, refused.headers["content-type"]) == (400, "application/json; charset=utf-8")


async def test_model_wins_over_name(http: httpx.AsyncClient) -> None:
    """Where both are sent, `model` counts."""
    body = {"model": "mistral:7b", "name": "nope", "stream": False}
    assert (await http.post("/api/pull", json=body)).status_code == 200


async def test_push(http: httpx.AsyncClient) -> None:
    """A push streams its progress; an unknown model fails after the first line."""
    assert lines(await http.post("/api/push", json={"model": "llama3.1:8b"}))[-1] == {"status": "success"}
    missing = await http.post("/api/push", json={"model": "nope"})
    assert missing.status_code == 200
    assert "error" in lines(missing)[-1]
    assert (await http.post("/api/push", json={})).json() == {"error": "model is required"}


async def test_blobs(http: httpx.AsyncClient) -> None:
    """HEAD tells whether a blob is there; POST stores it with 201, and says 200 when it was there before."""
    path = f"/api/blobs/{DIGEST}"
    assert (await http.head(path)).status_code == 404
    assert (await http.post(path, content=GGUF)).status_code == 201
    assert (await http.head(path)).status_code == 200
    assert (await http.post(path, content=GGUF)).status_code == 200


async def test_a_wrong_digest_is_refused_but_stored(http: httpx.AsyncClient) -> None:
    """400 names both digests; the data is kept under its true one."""
    wrong = "sha256:" + "0" * 64
    answer = await http.post(f"/api/blobs/{wrong}", content=GGUF)
    expected = f'digest mismatch, expected "{wrong}", got "{DIGEST}"'
    assert (answer.status_code, answer.json()) == (400, {"error": expected})
    assert (await http.head(f"/api/blobs/{DIGEST}")).status_code == 200
    bad = await http.post("/api/blobs/sha256:123", content=GGUF)
    assert (bad.status_code, bad.json()) == (400, {"error": "invalid digest format"})


async def test_create_from_a_blob_and_from_a_model(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """Files must be uploaded before; `from` makes another name for a model."""
    body = {"model": "mine", "files": {"a.gguf": DIGEST}}
    missing = lines(await http.post("/api/create", json=body))[-1]["error"]
    assert missing == f"open /models/blobs/{DIGEST.replace(':', '-')}: no such file or directory"
    await http.post(f"/api/blobs/{DIGEST}", content=GGUF)
    assert lines(await http.post("/api/create", json=body))[-1] == {"status": "success"}
    made = sim.library.find("mine")
    assert made is not None
    assert made.size == len(GGUF)
    await http.post("/api/create", json={"model": "twin", "from": "llama3.1:8b"})
    assert (await http.post("/api/generate", json={"model": "twin"})).status_code == 200
    assert (await http.post("/api/create", json={"model": "bare"})).status_code == 400


async def test_copy_and_delete(http: httpx.AsyncClient) -> None:
    """Both answer 200 with an empty body; a copy has the digest of its source."""
    copied = await http.post("/api/copy", json={"source": "llama3.1:8b", "destination": "me/backup"})
    assert (copied.status_code, copied.content) == (200, b"")
    models = {one["name"]: one["digest"] for one in (await http.get("/api/tags")).json()["models"]}
    assert models["me/backup:latest"] == models["llama3.1:8b"]
    deleted = await http.request("DELETE", "/api/delete", json={"model": "me/backup"})
    assert (deleted.status_code, deleted.content) == (200, b"")
    assert (await http.post("/api/show", json={"model": "me/backup"})).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", "/api/copy", {"source": "nope", "destination": "x"}, 404, 'model "nope" not found'),
        ("POST", "/api/copy", {"source": "a b", "destination": "x"}, 400, 'source "a b" is invalid'),
        ("DELETE", "/api/delete", {"name": "nope"}, 404, "model 'nope' not found"),
        ("DELETE", "/api/delete", {"model": "a b"}, 400, 'name "a b" is invalid'),
        ("POST", "/api/create", {"model": "a b"}, 400, "invalid model name"),
        ("POST", "/api/pull", {"model": "a b"}, 400, "invalid model name"),
    ],
)
async def test_refusals(
    http: httpx.AsyncClient, method: str, path: str, body: dict[str, str], status: int, text: str
) -> None:
    """Each route has a text of its own for a bad or unknown name."""
    answer = await http.request(method, path, json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": text})


async def test_the_account_is_nobodys(http: httpx.AsyncClient) -> None:
    """/api/me is 401 with a sign-in URL, signing out answers null."""
    me = await http.post("/api/me")
    assert (me.status_code, set(me.json())) == (401, {"error", "signin_url"})
    assert (await http.post("/api/signout")).json() is None
    assert (await http.post("/api/experimental/web_search", json={"query": "x"})).status_code == 401
    assert (await http.post("/api/experimental/web_search")).status_code == 400
    assert (await http.get("/api/experimental/model-recommendations")).json() == {"recommendations": []}
