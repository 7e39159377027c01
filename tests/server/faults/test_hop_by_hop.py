"""Random header fields in both directions: what belongs to one hop, or to us, never crosses (RFC 9110 7.6.1).

Which fields are meant by name is in `tests/server/relay/test_replay_egress.py`; here names, cases, blanks and
nominations are drawn. The pure rule with many sets, and the same through real sockets with fewer.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config import load_config
from ollama_router_core.outbound.destinations import build_destinations
from ollama_router_core.outbound.header_fields import answer_fields, request_fields
from support.faulty_ollama import entry, faulty_ollama, length_of
from support.raw_client import RawClient, chat, parsed, request_bytes
from support.router import running_router
from support.scripted_server import Peer

pytestmark = pytest.mark.anyio

HOP = ("keep-alive", "proxy-connection", "te", "trailer", "upgrade", "proxy-authenticate", "proxy-authorization")
PASS = ("accept", "accept-language", "user-agent", "traceparent", "x-ratelimit-limit", "x-thing", "content-language")
SECRETS = ("cookie", "set-cookie", "x-forwarded-for", "server", "openai-organization", "x-router-server", "location")
NAMES = (*HOP, *PASS, *SECRETS)
CONFIG = load_config('{"servers": {"one": {"host": "127.0.0.1", "port": 1}}}')
PLACE = build_destinations(CONFIG, {}, lambda _path: "", shipped_profiles())["one"]


def cased(name: str, rng: random.Random) -> str:
    """The name in some mixture of cases."""
    return "".join(rng.choice((letter.upper(), letter)) for letter in name)


def drawn(rng: random.Random) -> tuple[list[tuple[str, str]], set[str]]:
    """Fields whose values are canaries, some of them nominated in Connection; and the nominated names."""
    names = rng.sample(NAMES, rng.randint(1, 8))
    nominated = {name for name in names if rng.random() < 0.4}
    fields = [(cased(name, rng), "trailers" if name == "te" else f"canary-{name}") for name in names]
    tokens = [cased(name, rng) for name in nominated] + rng.sample(["keep-alive", "x-none", ""], rng.randint(0, 2))
    rng.shuffle(tokens)
    count = rng.randint(1, 2)
    for number in range(count):
        listed = (" ," if rng.random() < 0.5 else ", ").join(tokens[number::count])
        fields.insert(rng.randrange(len(fields) + 1), (cased("connection", rng), listed))
    return fields, nominated


def wire(fields: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Fields as both parsers hand them on."""
    return [(name.lower().encode(), value.encode()) for name, value in fields]


def leaked(crossed: list[tuple[bytes, bytes]], forbidden: set[str]) -> set[bytes]:
    """Names of fields that crossed although they were not to; also any whose value is a forbidden one's."""
    values = {f"canary-{name}".encode() for name in forbidden}
    return {name for name, value in crossed if name.decode() in forbidden or value in values}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=10 * settings.default.max_examples)  # 5,000 in the deep profile
def test_the_rule_leaks_nothing(seed: int) -> None:
    """Law: nominated and hop-by-hop fields and secrets stay on their side, in both directions."""
    fields, nominated = drawn(random.Random(seed))  # noqa: S311 - repeatable
    forbidden = {*HOP, *SECRETS, "connection", *nominated}
    assert leaked(list(request_fields(wire(fields), PLACE, "id")), forbidden - {"x-router-server"}) == set()
    assert leaked(answer_fields(wire(fields)), forbidden - {"cookie", "x-forwarded-for"}) == set()


@pytest.mark.front_only
async def test_nothing_leaks_over_sockets(tmp_path: Path) -> None:
    """A hundred sets each way on the two ways through the router, and on an error's way back."""
    rng = random.Random(9110)  # noqa: S311 - repeatable
    heads: list[bytes] = []
    sent_back: list[list[tuple[str, str]]] = []

    async def answers(peer: Peer, head: bytes) -> None:
        await peer.body(length_of(head))
        heads.append(head)
        status = rng.choice(["200 OK", "400 Bad Request", "500 Internal Server Error"])
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent_back[-1])
        await peer.send(f"HTTP/1.1 {status}\r\n{lines}Content-Length: 2\r\n\r\n{{}}".encode())

    async with faulty_ollama(answers) as server, running_router(tmp_path, {"one": entry(server)}) as router:
        for _ in range(100):
            fields, nominated = drawn(rng)
            back, nominated_back = drawn(rng)
            sent_back.append(back)
            request = request_bytes(router.token, chat(stream=False))
            start, _, rest = request.partition(b"\r\n")
            block = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
            async with RawClient.open(router.port) as client:
                await client.send(start + b"\r\n" + block + rest)
                head = await client.until(b"\r\n\r\n")
            crossed = wire([tuple(line.split(": ", 1)) for line in heads[-1].decode().splitlines()[1:-1]])
            answer = [(name.encode(), value.encode()) for name, value in parsed(head).fields.items()]
            forbidden = {*HOP, *SECRETS, "connection", "authorization", *nominated} - {"x-router-server"}
            assert leaked(crossed, forbidden) == set()
            hop_back = {*HOP, *SECRETS, *nominated_back} - {"cookie", "x-forwarded-for", "server", "x-router-server"}
            assert leaked(answer, hop_back) == set()
            assert not any(value == b"canary-x-router-server" for _, value in answer)
        assert len(heads) == 100
