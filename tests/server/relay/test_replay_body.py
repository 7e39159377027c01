"""Bodies that have fooled gateways: what the router checked is what the server gets, or the request is refused.

Each test replays one way around a permission check. Alice may use `allowed` and nothing else.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_core.testing.recording import RecordedRequest
from support.router import RunningRouter, running_router, server_entry

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.anyio

ALLOWED, FORBIDDEN = "allowed:1b", "forbidden:1b"
ROUTES = [
    "/api/generate", "/api/chat", "/api/embed", "/api/embeddings", "/api/show", "/v1/chat/completions",
    "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
]  # fmt: skip
REST: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x", "max_tokens": 3}


@dataclass
class Stage:
    """A server that holds both models, and a router where Alice may use one of them."""

    sim: OllamaSimulator
    router: RunningRouter
    client: httpx.AsyncClient

    def received(self) -> list[RecordedRequest]:
        """What reached the server besides the router's own questions."""
        own = {"/api/version", "/api/tags", "/api/ps"}
        asked = [one for one in self.sim.requests if one.path not in own]
        return [one for one in asked if one.path != "/api/show" or one.header("x-request-id")]


@asynccontextmanager
async def stage(folder: Path, **config: Any) -> AsyncIterator[Stage]:
    """Set it up."""
    capable = ("completion", "tools", "embedding", "audio")
    held = [model(name, capabilities=capable) for name in (ALLOWED, FORBIDDEN)]
    async with (
        OllamaSimulator(models=held) as sim,
        running_router(folder, {"one": server_entry(sim)}, **config) as router,
        router.client() as client,
    ):
        await router.services.users.set_grants("alice", {"models": [ALLOWED]})
        await router.services.authenticator.refresh()
        yield Stage(sim, router, client)


def body(**members: Any) -> str:
    """A JSON body that every route takes."""
    return json.dumps({**members, **REST})


KELVIN, LONG_S = "\u212a", "\u017f"
TRICKS = {
    "the key twice": f'{{"model":"{ALLOWED}","model":"{FORBIDDEN}",' + body()[1:],
    "the key twice, the other way round": f'{{"model":"{FORBIDDEN}","model":"{ALLOWED}",' + body()[1:],
    "another case": body(model=ALLOWED, MODEL=FORBIDDEN),
    "mixed case": body(model=ALLOWED, Model=FORBIDDEN),
    "another case alone": body(MODEL=FORBIDDEN),
    "an escaped key": body(model=ALLOWED)[:-1] + f',"\\u006dodel":"{FORBIDDEN}"}}',
    "an escaped key in another case": body(model=ALLOWED)[:-1] + f',"\\u004dodel":"{FORBIDDEN}"}}',
    "the Kelvin sign": body(model=ALLOWED, **{f"{KELVIN}eep_alive": -1}),
    "the long s": body(model=ALLOWED, **{f"{LONG_S}tream": False}),
    "a second value": body(model=ALLOWED) + body(model=FORBIDDEN),
    "trailing text": body(model=ALLOWED) + " x",
    "a byte order mark": "\ufeff" + body(model=ALLOWED),
    "a list": f"[{body(model=ALLOWED)}]",
    "a comment": "/**/" + body(model=ALLOWED),
    "a single quote": body(model=ALLOWED).replace('"', "'"),
    "NaN": body(model=ALLOWED)[:-1] + ',"x":NaN}',
    "a model that is a list": body(model=[ALLOWED, FORBIDDEN]),
    "a model that is an object": body(model={"name": FORBIDDEN}),
    "a line end in the model": body(model=f"{ALLOWED}\n{FORBIDDEN}"),
    "a NUL in the model": body(model=f"{ALLOWED}\0{FORBIDDEN}"),
    "options in another case": body(model=ALLOWED, options={"NUM_CTX": 9}),
    "deep nesting": body(model=ALLOWED)[:-1] + ',"x":' + "[" * 100_000 + "]" * 100_000 + "}",
}


@pytest.mark.parametrize("path", ROUTES)
async def test_an_ambiguous_body_is_refused_and_reaches_no_server(tmp_path: Path, path: str) -> None:
    """400 in the dialect of the route: two readings are one too many."""
    async with stage(tmp_path) as on:
        for trick, text in TRICKS.items():
            if trick == "options in another case" and (path.startswith("/v1/") or path == "/api/show"):
                continue  # nobody reads options there
            response = await on.client.post(path, content=text.encode("utf-8", "surrogatepass"))
            assert response.status_code == 404 if "alone" in trick and "'' not" in response.text else 400, trick
            assert "error" in response.json(), trick
            assert on.received() == [], trick


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-32"])
async def test_a_body_that_is_not_utf_8_is_refused(tmp_path: Path, encoding: str) -> None:
    """Whatever a decoder might make of it."""
    async with stage(tmp_path) as on:
        text = body(model=ALLOWED)[:-1] + ',"x":"\u00e9"}'
        response = await on.client.post("/api/chat", content=text.encode(encoding))
        assert response.status_code == 400
        assert on.received() == []


@pytest.mark.parametrize("path", ROUTES)
async def test_every_route_checks_the_model_alike(tmp_path: Path, path: str) -> None:
    """A restriction that holds on one route and not on the next is none; by Bearer and by x-api-key."""
    async with stage(tmp_path) as on, on.router.client("") as bare:
        credentials = ({"authorization": f"Bearer {on.router.token}"}, {"x-api-key": on.router.token})
        for headers in credentials:
            refused = await bare.post(path, content=body(model=FORBIDDEN), headers=headers)
            assert refused.status_code == 403
            assert not on.received()
        allowed = await on.client.post(path, content=body(model=ALLOWED))
        assert allowed.status_code == 200
        assert [json.loads(bytes(one.body))["model"] for one in on.received()] == [ALLOWED]


@pytest.mark.parametrize(
    "spelling", ["FORBIDDEN:1B", "library/forbidden:1b", "registry.ollama.ai/library/forbidden:1b"]
)
async def test_another_spelling_of_a_model_is_the_same_model(tmp_path: Path, spelling: str) -> None:
    """Ollama would find it under each of these."""
    async with stage(tmp_path) as on:
        assert (await on.client.post("/api/chat", content=body(model=spelling))).status_code == 403
        assert on.received() == []


async def test_name_does_not_beat_model_on_show(tmp_path: Path) -> None:
    """`model` wins when both are set, for the server and for the check."""
    async with stage(tmp_path) as on:
        both = {"model": FORBIDDEN, "name": ALLOWED}
        assert (await on.client.post("/api/show", json=both)).status_code == 403
        assert (await on.client.post("/api/show", json={"model": "", "name": FORBIDDEN})).status_code == 403
        assert on.received() == []


COMPRESSED = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "x-gzip": gzip.compress,
    "br": lambda data: data,
    "zstd, zstd": lambda data: zstd.compress(zstd.compress(data)),
    "gzip, zstd": lambda data: zstd.compress(gzip.compress(data)),
}


async def test_a_body_that_cannot_be_looked_into_is_refused(tmp_path: Path) -> None:
    """415 on every route: what was not checked is not sent."""
    async with stage(tmp_path) as on:
        for encoding, compress in COMPRESSED.items():
            data = compress(body(model=FORBIDDEN).encode())
            for path in ROUTES:
                response = await on.client.post(path, content=data, headers={"content-encoding": encoding})
                assert response.status_code == 415, (encoding, path)
        assert on.received() == []


async def test_zstd_is_decoded_where_ollama_decodes_it(tmp_path: Path) -> None:
    """The check sees what the server would see, and the server gets it decoded; elsewhere it is refused."""
    headers = {"content-encoding": "zstd"}
    async with stage(tmp_path) as on:
        for path in ROUTES:
            forbidden = await on.client.post(
                path, content=zstd.compress(body(model=FORBIDDEN).encode()), headers=headers
            )
            assert forbidden.status_code == (403 if path.startswith("/v1/") else 415), path
        assert on.received() == []
        data = zstd.compress(body(model=ALLOWED).encode())
        response = await on.client.post("/v1/chat/completions", content=data, headers=headers)
        (seen,) = on.received()
    assert response.status_code == 200
    assert seen.json["model"] == ALLOWED
    assert seen.header("content-encoding") is None


async def test_zstd_frames_are_all_read(tmp_path: Path) -> None:
    """A second frame continues the body, and so may make it two values."""
    first = zstd.compress(body(model=ALLOWED).encode())
    second = zstd.compress(body(model=FORBIDDEN).encode())
    async with stage(tmp_path) as on:
        headers = {"content-encoding": "zstd"}
        response = await on.client.post("/v1/chat/completions", content=first + second, headers=headers)
        assert response.status_code == 400
        assert on.received() == []


BOMBS = {
    "a bomb": (zstd.compress(b" " * 200_000_000), 413),
    "cut off": (zstd.compress(body(model=ALLOWED).encode())[:-3], 400),
    "not zstd": (b"not zstd at all", 400),
    "junk after the frame": (zstd.compress(body(model=ALLOWED).encode()) + b"junk", 400),
    "a huge window": (
        zstd.compress(b"x" * 1000, options={zstd.CompressionParameter.window_log: 27}), 400
    ),
}  # fmt: skip


async def test_a_bad_zstd_body_is_refused_before_it_costs_memory(tmp_path: Path) -> None:
    """20 MiB at most, as in Ollama."""
    async with stage(tmp_path) as on:
        for why, (data, status) in BOMBS.items():
            response = await on.client.post("/v1/responses", content=data, headers={"content-encoding": "zstd"})
            assert response.status_code == status, why
        assert on.received() == []


def form(*fields: tuple[str, str]) -> tuple[bytes, dict[str, str]]:
    """A multipart form with these fields and a file."""
    pieces = [f'--XX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields]
    pieces.append('--XX\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--XX--\r\n')
    return "".join(pieces).encode(), {"content-type": "multipart/form-data; boundary=XX"}


SPEECH = "/v1/audio/transcriptions"


async def test_a_query_string_does_not_beat_the_form(tmp_path: Path) -> None:
    """Go reads `?model=` before a multipart field: the query is dropped, and so is any other."""
    data, headers = form(("model", ALLOWED))
    async with stage(tmp_path) as on:
        response = await on.client.post(f"{SPEECH}?model={FORBIDDEN}", content=data, headers=headers)
        (seen,) = on.received()
    assert response.status_code == 200
    assert seen.target == SPEECH
    assert FORBIDDEN.encode() not in seen.body


TRICKY_FORMS = {
    "the field twice": form(("model", ALLOWED), ("model", FORBIDDEN)),
    "another case": form(("model", ALLOWED), ("Model", FORBIDDEN)),
    "urlencoded": (f"model={FORBIDDEN}".encode(), {"content-type": "application/x-www-form-urlencoded"}),
    "two boundaries": (form(("model", ALLOWED))[0], {"content-type": "multipart/form-data; boundary=YY; boundary=XX"}),
    "a JSON body": (body(model=ALLOWED).encode(), {"content-type": "application/json"}),
    "before the first boundary": (b"model=forbidden\r\n" + form(("model", ALLOWED))[0], form()[1]),
    "after the last boundary": (form(("model", ALLOWED))[0] + form(("model", FORBIDDEN))[0], form()[1]),
}


async def test_an_ambiguous_form_is_refused(tmp_path: Path) -> None:
    """In OpenAI's dialect, and nothing reaches a server."""
    async with stage(tmp_path) as on:
        for trick, (data, headers) in TRICKY_FORMS.items():
            response = await on.client.post(SPEECH, content=data, headers=headers)
            assert response.status_code == 400, trick
            assert response.json()["error"]["type"] == "invalid_request_error", trick
        assert on.received() == []


async def test_the_model_of_a_form_is_checked(tmp_path: Path) -> None:
    """As on every other route."""
    data, headers = form(("model", FORBIDDEN))
    async with stage(tmp_path) as on:
        assert (await on.client.post(SPEECH, content=data, headers=headers)).status_code == 403
        assert on.received() == []


async def test_odd_values_arrive_unchanged(tmp_path: Path) -> None:
    """What a real Ollama takes is not lost on the way: lone surrogates, 1e400, integers of 30 and 5000 digits."""
    odd = '"\\ud800" , 1e400,  -0.0, 123456789012345678901234567890 , ' + "9" * 5000
    text = f' {{ "model" : "{ALLOWED}" ,\t"prompt":"x", "y":[{odd}] }}\n'
    async with stage(tmp_path) as on:
        await on.client.post("/api/generate", content=text)
        (seen,) = on.received()
    assert bytes(seen.body) == text.encode()


@pytest.mark.parametrize("key", ["api_base", "base_url", "api_key", "remote_host", "headers", "url"])
async def test_a_body_does_not_say_where_a_request_goes(tmp_path: Path, key: str) -> None:
    """Keys that steer other gateways are words like any other: the server of the config gets the request."""
    async with stage(tmp_path) as on:
        response = await on.client.post(
            "/v1/chat/completions", content=body(model=ALLOWED, **{key: "http://127.0.0.1:1"})
        )
        assert response.status_code == 200
        assert response.headers["x-router-server"] == "one"
