"""The routes that tell something: heartbeat, version, status, tags, ps, show, and what is not served."""

from __future__ import annotations

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator
from support.plain_http import async_client

pytestmark = pytest.mark.anyio

JSON = "application/json; charset=utf-8"


async def test_heartbeat_is_text(http: httpx.AsyncClient) -> None:
    """GET / says so in plain text; HEAD / says the same without a body."""
    get, head = await http.get("/"), await http.head("/")
    assert (get.status_code, get.text, get.headers["content-type"]) == (
        200,
        "Ollama is running",
        "text/plain; charset=utf-8",
    )
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "17")


async def test_version(http: httpx.AsyncClient) -> None:
    """GET and HEAD /api/version."""
    answer = await http.get("/api/version")
    assert (answer.json(), answer.headers["content-type"]) == ({"version": "0.32.15"}, JSON)
    assert (await http.head("/api/version")).status_code == 200


async def test_status_tells_whether_the_cloud_is_disabled(http: httpx.AsyncClient) -> None:
    """GET /api/status; it has no HEAD."""
    assert (await http.get("/api/status")).json() == {"cloud": {"disabled": False, "source": "none"}}
    assert (await http.head("/api/status")).status_code == 405


async def test_tags_entry_has_every_field(http: httpx.AsyncClient) -> None:
    """An entry of /api/tags carries name twice, RFC 3339 time, size, bare digest, details, capabilities."""
    entry = next(one for one in (await http.get("/api/tags")).json()["models"] if one["name"] == "llama3.1:8b")
    assert entry == {
        "name": "llama3.1:8b",
        "model": "llama3.1:8b",
        "modified_at": "2025-06-15T15:06:40Z",
        "size": 4_920_753_328,
        "digest": entry["digest"],
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "8.0B",
            "quantization_level": "Q4_K_M",
            "context_length": 131_072,
            "embedding_length": 4096,
        },
        "capabilities": ["completion", "tools"],
    }
    assert len(entry["digest"]) == 64
    assert int(entry["digest"], 16)


async def test_tags_answers_head_and_ps_does_not(http: httpx.AsyncClient) -> None:
    """HEAD /api/tags is 200, HEAD /api/ps is 405."""
    assert (await http.head("/api/tags")).status_code == 200
    assert (await http.head("/api/ps")).status_code == 405


async def test_ps_lists_what_is_loaded(http: httpx.AsyncClient) -> None:
    """A loaded model shows its memory, its context and when it will go."""
    assert (await http.get("/api/ps")).json() == {"models": []}
    options = {"num_ctx": 8192}
    await http.post("/api/generate", json={"model": "llama3.1:8b", "options": options})
    (entry,) = (await http.get("/api/ps")).json()["models"]
    assert (entry["name"], entry["model"], entry["context_length"]) == ("llama3.1:8b", "llama3.1:8b", 8192)
    assert entry["size"] == entry["size_vram"] == 4_920_753_328 + 1_073_741_824 + (768 << 20)
    assert entry["expires_at"] > "2020"
    assert "context_length" not in entry["details"]


async def test_ps_of_a_model_that_never_expires_is_far_in_the_future(http: httpx.AsyncClient) -> None:
    """keep_alive below zero pins a model."""
    await http.post("/api/generate", json={"model": "llama3.1:8b", "keep_alive": -1})
    (entry,) = (await http.get("/api/ps")).json()["models"]
    assert entry["expires_at"].startswith("2318")


async def test_show_has_the_facts_memory_estimates_need(http: httpx.AsyncClient) -> None:
    """model_info is keyed by architecture; arrays are null unless verbose; general.name is gone."""
    shown = (await http.post("/api/show", json={"model": "llama3.1:8b"})).json()
    info = shown["model_info"]
    assert info["general.architecture"] == "llama"
    assert info["general.parameter_count"] == 8_000_000_000
    assert (info["llama.block_count"], info["llama.attention.head_count"]) == (32, 32)
    assert (info["llama.attention.head_count_kv"], info["llama.embedding_length"]) == (8, 4096)
    assert info["tokenizer.ggml.tokens"] is None
    assert "general.name" not in info
    assert shown["capabilities"] == ["completion", "tools"]
    assert shown["tensors"]
    verbose = (await http.post("/api/show", json={"name": "llama3.1:8b", "verbose": True})).json()
    assert verbose["model_info"]["tokenizer.ggml.tokens"]


async def test_show_echoes_the_short_name_when_it_is_missing(http: httpx.AsyncClient) -> None:
    """404 with single quotes and the normalised short name; no name at all is 400."""
    missing = await http.post("/api/show", json={"model": "registry.ollama.ai/library/nope"})
    assert (missing.status_code, missing.json()) == (404, {"error": "model 'nope:latest' not found"})
    nameless = await http.post("/api/show", json={})
    assert (nameless.status_code, nameless.json()) == (400, {"error": "model is required"})


@pytest.mark.parametrize(
    ("version", "tags_tell_more", "ps_tells_context"),
    [("0.33.0-rc2", True, True), ("0.30.0", True, True), ("0.29.9", False, True), ("0.9.6", False, False)],
)
async def test_older_servers_tell_less(
    sim: OllamaSimulator, http: httpx.AsyncClient, version: str, tags_tell_more: bool, ps_tells_context: bool
) -> None:
    """Capabilities and lengths in /api/tags came with 0.30, the context in /api/ps with 0.9.7."""
    sim.version = version
    await http.post("/api/generate", json={"model": "llama3.1:8b"})
    tag = (await http.get("/api/tags")).json()["models"][0]
    loaded = (await http.get("/api/ps")).json()["models"][0]
    assert ("capabilities" in tag, "context_length" in tag["details"]) == (tags_tell_more, tags_tell_more)
    assert ("context_length" in loaded) == ps_tells_context


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/nope", 404, "404 page not found"),
        ("POST", "/v1/messages/count_tokens", 404, "404 page not found"),
        ("GET", "/metrics", 404, "404 page not found"),
        ("GET", "/v1/models/a%2Fb", 404, "404 page not found"),
        ("GET", "/api/chat", 405, "405 method not allowed"),
        ("POST", "/api/tags", 405, "405 method not allowed"),
        ("POST", "/api/delete", 405, "405 method not allowed"),
    ],
)
async def test_unknown_paths_and_methods_are_plain_text(
    http: httpx.AsyncClient, method: str, path: str, status: int, text: str
) -> None:
    """Gin answers 404 and 405 in text without a charset, never in JSON."""
    answer = await http.request(method, path)
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/api/tags", "HEAD, GET"),
        ("GET", "/api/blobs/sha256:0", "HEAD, POST"),
        ("GET", "/api/delete", "DELETE"),
        ("OPTIONS", "/v1/models/some-model", "GET"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    http: httpx.AsyncClient, method: str, path: str, allow: str
) -> None:
    """Gin 1.10 sends Allow with a 405, in the order of its trees."""
    assert (await http.request(method, path)).headers["allow"] == allow


@pytest.mark.parametrize(
    ("version", "method", "path"),
    [
        ("0.13.2", "POST", "/v1/responses"),
        ("0.13.9", "POST", "/v1/messages"),
        ("0.16.1", "GET", "/api/status"),
        ("0.17.0", "POST", "/api/experimental/web_search"),
        ("0.19.0", "POST", "/v1/audio/transcriptions"),
        ("0.22.0", "GET", "/api/experimental/model-recommendations"),
    ],
)
async def test_routes_came_with_versions(
    sim: OllamaSimulator, http: httpx.AsyncClient, version: str, method: str, path: str
) -> None:
    """A server that is older than a route does not know the path; the newest does."""
    assert (await http.request(method, path)).text != "404 page not found"
    sim.version = version
    assert (await http.request(method, path)).text == "404 page not found"


async def test_servers_before_0_6_9_know_no_405(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """They answer 404 to a wrong method."""
    sim.version = "0.6.8"
    assert (await http.put("/api/tags")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "/api/tags/", 301, "/api/tags"),
        ("POST", "/api/chat/?x=1", 307, "/api/chat?x=1"),
        ("GET", "//api/tags", 307, "/api/tags"),
        ("GET", "/api//tags?a=b", 307, "/api/tags?a=b"),
    ],
)
async def test_unclean_paths_are_redirected(
    sim: OllamaSimulator, method: str, path: str, status: int, location: str
) -> None:
    """A slash too many is a redirect by gin, an unclean path one by the mux in front of it."""
    async with async_client(sim.url) as client:
        request = client.build_request(method, sim.url)
        request.url = httpx.URL(sim.url).copy_with(raw_path=path.encode())
        answer = await client.send(request)
    assert (answer.status_code, answer.headers["location"]) == (status, location)
