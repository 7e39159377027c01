"""What a program gets of a server's answer: its fields, its bytes, how it ends."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from ollama_router_core import AsyncRouterTransport, MemorySink, RouterTransport
from ollama_router_core.testing import FakeFleet

CHAT: dict[str, Any] = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
LIBRARIES = [httpx, httpx2]
STRATEGIES = ["priority_with_memory", "least_loaded", "round_robin", "fastest"]
ANSWER = b'{"message":{"role":"assistant","content":"Hi"},"done":true,"eval_count":2,"eval_duration":1}'


class Streaming:
    """An inner transport whose chats are streams, as those of sockets are; `fields` and `status` are theirs."""

    def __init__(self, fleet: FakeFleet, library: Any = httpx) -> None:
        self.fleet = fleet
        self.library = library
        self.fields: list[tuple[bytes, bytes]] = [(b"Content-Type", b"application/json")]
        self.status: Callable[[str], int] = lambda server: 200
        self.seen: list[Any] = []

    def handle_request(self, request: Any) -> Any:
        """A chat's answer has not been read yet."""
        if request.url.path != "/api/chat":
            return self.fleet.handle_request(request)
        self.seen.append(request)
        status, stream = self.status(request.url.host), self.library.ByteStream(ANSWER)
        return self.library.Response(
            status, headers=self.fields, stream=stream, extensions={"http_version": b"HTTP/1.0"}
        )

    async def handle_async_request(self, request: Any) -> Any:
        """The same for tasks."""
        return self.handle_request(request)

    def close(self) -> None:
        """Nothing to close."""

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_response_is_the_server_s_with_the_router_s_fields(fleet: FakeFleet, library: Any) -> None:
    """Extensions stay, fields that are not a server's to set go, and the program's own request is left as it was."""
    inner = Streaming(fleet, library)
    inner.fields += [
        (b"Date", b"now"),
        (b"Set-Cookie", b"a=1"),
        (b"Connection", b"x-own"),
        (b"X-Own", b"1"),
        (b"X-More", b"2"),
        (b"Content-Language", b"en"),
    ]
    with library.Client(transport=RouterTransport(fleet.config, inner=inner)) as client:
        client.post("http://router/api/chat", json=CHAT)
        answer = client.post("http://router/api/chat", json=CHAT, headers={"authorization": "Bearer s"})
    assert answer.http_version == "HTTP/1.0"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["x-router-server"] == inner.seen[-1].url.host
    assert answer.headers["content-language"] == "en"
    assert not {"date", "set-cookie", "x-own", "x-more", "connection"} & set(answer.headers)
    assert str(answer.request.url) == "http://router/api/chat"
    assert answer.request.headers["authorization"] == "Bearer s"
    assert "authorization" not in inner.seen[-1].headers


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_answer_can_be_pickled_and_its_fields_changed(fleet: FakeFleet, library: Any) -> None:
    """The fields know that they are ASCII; all else they do as the library's own."""
    with library.Client(transport=RouterTransport(fleet.config, inner=Streaming(fleet, library))) as client:
        answer = client.post("http://router/api/chat", json=CHAT)
    copied = pickle.loads(pickle.dumps(answer))  # noqa: S301 - our own
    assert copied.headers == answer.headers
    assert type(copied.headers) is library.Headers
    answer.headers.encoding = "utf-8"
    answer.headers["x-own"] = "\N{EURO SIGN}"
    assert answer.headers["x-own"] == "\N{EURO SIGN}"
    assert ("x-own", "\N{EURO SIGN}") in answer.headers.multi_items()


def test_fields_that_are_not_ascii_arrive(fleet: FakeFleet) -> None:
    """A server may write what it likes into a field."""
    inner = Streaming(fleet)
    inner.fields.append((b"content-disposition", "gr\xfc\xdfe".encode()))
    with httpx.Client(transport=RouterTransport(fleet.config, inner=inner)) as client:
        for _ in range(2):
            assert client.post("http://router/api/chat", json=CHAT).headers["content-disposition"] == "gr\xfc\xdfe"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_comes_of_a_first_attempt_is_gone_on_with(fleet: FakeFleet, strategy: str, clock: Any) -> None:
    """A server that refuses in the middle of everything: the next is asked, counts are right, nobody is asked twice."""
    inner, sink = Streaming(fleet), MemorySink()
    config = fleet.config.model_copy(update={"routing_strategy": strategy})
    transport = RouterTransport(config, inner=inner, sink=sink, clock=clock)
    with httpx.Client(transport=transport, base_url="http://router") as client:
        for _ in range(3):
            client.post("/api/chat", json=CHAT)
        inner.seen.clear()
        inner.status = lambda _: 503 if len(inner.seen) == 1 else 200
        answer = client.post("/api/chat", json=CHAT)
        assert answer.status_code == 200
        assert sorted(one.url.host for one in inner.seen) == ["a", "b"]
        assert answer.headers["x-router-attempts"] == "2"
        inner.status = lambda server: 302
        assert client.post("/api/chat", json=CHAT).status_code == 502
    assert set(transport.snapshot.in_flight.values()) == {0}
    assert not transport._state.admission.waiting


def test_a_cancelled_send_frees_its_place(fleet: FakeFleet, clock: Any) -> None:
    """Whoever is cancelled while the server is silent leaves nothing in flight; the record says 499."""
    sink = MemorySink()

    class Silent(Streaming):
        async def handle_async_request(self, request: Any) -> Any:
            if request.url.path == "/api/chat" and len(self.seen) > 1:
                await anyio.sleep_forever()
            return self.handle_request(request)

    async def run() -> None:
        transport = AsyncRouterTransport(fleet.config, inner=Silent(fleet), sink=sink, clock=clock)
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            for _ in range(2):
                await client.post("/api/chat", json=CHAT)
            with anyio.move_on_after(0.05):
                await client.post("/api/chat", json=CHAT)
        assert set(transport.snapshot.in_flight.values()) == {0}

    anyio.run(run)
    assert [row.status for row in sink.records] == [200, 200, 499]


class Breaking(httpx.SyncByteStream):
    """An answer that breaks off after its first piece."""

    def __iter__(self) -> Iterator[bytes]:
        yield ANSWER[:10]
        raise httpx.ReadError("gone")


def test_an_answer_that_nobody_watches_tells_how_it_ended(fleet: FakeFleet, clock: Any) -> None:
    """Without a sink pieces pass unseen; breaking off counts against the server, leaving early does not."""
    inner = Streaming(fleet)
    transport = RouterTransport(fleet.config, inner=inner, clock=clock)
    with httpx.Client(transport=transport, base_url="http://router") as client:
        client.post("/api/chat", json=CHAT)
        with client.stream("POST", "/api/chat", json=CHAT):
            pass
        assert set(transport.snapshot.in_flight.values()) == {0}
        assert not transport._state.fleet.health.troubled
        real = inner.handle_request

        def breaking(request: Any) -> Any:
            response = real(request)
            if request.url.path == "/api/chat":
                response.stream = Breaking()
            return response

        inner.handle_request = breaking  # type: ignore[method-assign]
        while not transport.snapshot.suspended:
            with pytest.raises(httpx.ReadError):
                client.post("/api/chat", json=CHAT)
            assert len(inner.seen) < 20
    assert set(transport.snapshot.in_flight.values()) == {0}


def test_requests_do_not_wait_for_questions_under_way(fleet: FakeFleet, clock: Any) -> None:
    """A server that takes long to tell about itself holds up nobody who knows enough."""
    silent = threading.Event()
    inner = Streaming(fleet)
    real = inner.handle_request

    def slow(request: Any) -> Any:
        if request.url.path != "/api/chat" and inner.seen:
            silent.wait(20)
        return real(request)

    inner.handle_request = slow  # type: ignore[method-assign]
    with httpx.Client(transport=RouterTransport(fleet.config, inner=inner, clock=clock)) as client:
        client.post("http://router/api/chat", json=CHAT)
        for _ in range(3):
            clock.now += 11
            assert client.post("http://router/api/chat", json=CHAT).status_code == 200
        silent.set()


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_request_takes_its_own_length_and_fields_along(fleet: FakeFleet, library: Any) -> None:
    """Bodies of several lengths in turn, and a field that changes: a server sees the request's own."""
    inner = Streaming(fleet, library)
    with library.Client(transport=RouterTransport(fleet.config, inner=inner), base_url="http://router") as client:
        for turn in range(1, 6):
            message = {"role": "user", "content": "x" * turn}
            client.post("/api/chat", json={**CHAT, "messages": [message]}, headers={"user-agent": f"agent {turn // 2}"})
            sent = inner.seen[-1]
            assert sent.headers["content-length"] == str(len(sent.read()))
            assert sent.headers["user-agent"] == f"agent {turn // 2}"
            assert ("x" * turn).encode() in sent.content


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_answer_made_here_is_read_like_any_other(fleet: FakeFleet, library: Any) -> None:
    """Raw bytes, lines and the whole: as of a real transport, an answer has not been read yet."""
    with library.Client(transport=RouterTransport(fleet.config, inner=fleet), base_url="http://router") as client:
        with client.stream("GET", "/api/version") as answer:
            raw = b"".join(answer.iter_raw())
        assert client.get("/api/version").content == raw


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_client_that_looks_for_cookies_finds_those_there_are(fleet: FakeFleet, library: Any) -> None:
    """Which it does in each answer: it is shown no other fields, as it makes a mail message of what it is shown."""
    with library.Client(transport=RouterTransport(fleet.config, inner=Streaming(fleet, library))) as client:
        answer = client.post("http://router/api/chat", json=CHAT)
        assert not client.cookies
        answer.headers["set-cookie"] = "user=1"
        client.cookies.extract_cookies(answer)
        assert dict(client.cookies) == {"user": "1"}
        assert "x-router-server" in dict(answer.headers.multi_items())


@pytest.mark.parametrize("library", LIBRARIES)
def test_fields_show_what_they_are_after_every_change(fleet: FakeFleet, library: Any) -> None:
    """Lists of fields are the caller's own, and say what is so now."""
    with library.Client(transport=RouterTransport(fleet.config, inner=Streaming(fleet, library))) as client:
        headers = client.post("http://router/api/chat", json=CHAT).headers
    before = headers.multi_items()
    before.append(("not", "there"))
    assert headers.multi_items() == before[:-1]
    headers["x-router-server"] = "other"
    assert ("x-router-server", "other") in headers.multi_items()
    del headers["x-router-server"]
    assert "x-router-server" not in dict(headers.multi_items())
    assert headers.get_list("Content-Type") == ["application/json"]
    assert headers.get_list("x-router-server", split_commas=True) == []
