"""The same bytes to us and to parsers we did not write: we accept nothing that two of them reject."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.http_corpus import BAD, GOOD
from support.reference_parsers import h11_accepts, proxy_accepts, running_haproxy, running_nginx
from support.strict_front import feed, serve_front

Verdicts = dict[str, Callable[[bytes], bool]]

SPICE = (
    b"\0",
    b"\t",
    b"\n",
    b"\r",
    b" ",
    b"\r\n",
    b"\x0b",
    b"\x7f",
    b"\xa0",
    b"+",
    b",",
    b"0",
    b":",
    b";",
    b"_",
    b"chunked",
)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verdicts]:
    """h11, and nginx and haproxy where they are installed (the checks that run for every change install them)."""
    with (
        serve_front(strict=False) as backend,
        running_nginx(tmp_path_factory.mktemp("nginx"), backend.port) as nginx,
        running_haproxy(tmp_path_factory.mktemp("haproxy"), backend.port) as haproxy,
    ):
        verdicts: Verdicts = {"h11": h11_accepts}
        for name, port in (("nginx", nginx), ("haproxy", haproxy)):
            if port is not None:
                verdicts[name] = lambda data, port=port: proxy_accepts(port, data)
        if len(verdicts) < 2:
            pytest.skip("needs nginx or haproxy")
        yield verdicts


def we_accept(data: bytes) -> bool:
    """Whether every answer of ours is a success, there is one, and nothing is left over that we wait to go on."""
    result = feed([data])
    return set(result.statuses) == {200} and not result.unfinished


def rejecting(others: Verdicts, data: bytes) -> list[str]:
    """Who of the others rejects the bytes."""
    return [name for name, accepts in others.items() if not accepts(data)]


def test_what_we_accept_is_accepted_by_all_but_one(others: Verdicts):
    """Every good case of the corpus is taken by at least all but one of the others."""
    verdicts = {case.name: rejecting(others, case.data) for case in GOOD}
    assert {name: who for name, who in verdicts.items() if len(who) > 1} == {}


def mutations(count: int, seed: int) -> Iterator[bytes]:
    """Good requests with one to three bytes or words put in, taken out or doubled."""
    rng = random.Random(seed)  # noqa: S311  # repeatable cases, nothing secret
    # h11 alone takes no empty line between requests: cases with one would leave room for one more rejection only.
    cases = [case.data for case in GOOD if len(case.data) < 400 and case.name != "stray-line-after-body"]
    for _ in range(count):
        data = rng.choice(cases)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(4)
            if kind == 0:
                data = data[:at] + rng.choice(SPICE) + data[at:]
            elif kind == 1:
                data = data[:at] + data[at + 1 :]
            elif kind == 2:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            else:
                lines = data.split(b"\r\n")
                line = rng.randrange(len(lines))
                data = b"\r\n".join([*lines[:line], lines[line], *lines[line:]])
        # An empty line after a request is nothing to us and nginx, and the start of a cut one to the others.
        while data.endswith(b"\r\n\r\n\r\n"):
            data = data.removesuffix(b"\r\n")
        yield data


def test_mutated_requests_that_we_accept_are_accepted_by_all_but_one(others: Verdicts):
    """Law: for bytes near good ones, too; seeded, so a finding can be repeated."""
    found = {}
    for data in mutations(400, seed=9112):
        if we_accept(data):
            who = rejecting(others, data)
            if len(who) > 1:
                found[data] = who
    assert found == {}


NAMES = st.sampled_from([
    *[b"Content-Length"] * 6, *[b"Transfer-Encoding"] * 6, b"Host", b"Connection", b"Expect", b"TE", b"Trailer",
    b"Upgrade", b"X-A", b"X-a", b"Accept", b"content-length", b"transfer-encoding", b"HOST", b"Content-length ",
    b" Host",
    b"Transfer-Encoding\t", b"X_A", b"X.A", b"X!A", b"X\xe9", b"", b"X A", b"Content_Length",
])  # fmt: skip
VALUES = st.sampled_from([
    *[b"3"] * 10, *[b"chunked"] * 10, b"a", b"a:80", b"a:", b"[::1]", b"a b", b"", b" ", b"3", b"03", b"+3",
    b"3 ", b"\t3", b"3,3", b"3, 3", b"0", b"1e1",
    b"0x3", b"-0", b"3;a", b"chunked", b"Chunked", b"chunked ", b"\tchunked", b"chunked,", b",chunked",
    b"chunked, chunked", b"identity", b"gzip", b"chunked;q=1", b"\x0bchunked", b"close", b"keep-alive", b"upgrade",
    b"100-continue", b"trailers", b"h2c", b"\xe9", b"a\x00b", b"a\rb", b"a\nb", b"a\r\n b", b"\x7f", b"a@b", b"a/b",
    b"a#b",
])  # fmt: skip
SEPARATORS = st.sampled_from([b": "] * 20 + [b":", b" : ", b":\t", b":  ", b"=", b" "])
LINE_ENDS = st.sampled_from([b"\r\n"] * 40 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n"])
METHODS = st.sampled_from([b"GET"] * 6 + [b"POST"] * 8 + [b"HEAD", b"PUT", b"OPTIONS", b"get", b"TRACE", b"", b"G ET"])
TARGETS = st.sampled_from(
    [b"/x"] * 14
    + [b"/", b"//x", b"/x?y", b"/a%2fb", b"/x;y"]
    + [b"/x#y", b"*", b"x", b"http://a/x", b"/\xe9", b"/a\tb", b"/a b", b"", b"/x?y#z", b"a:80"]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1"] * 16 + [b"HTTP/1.0"] * 3 + [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.01", b"http/1.1", b"HTTP/1", b""]
)
BODIES = st.sampled_from([
    b"", b"", b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"03\r\nabc\r\n0\r\n\r\n", b"3 \r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n", b"\r\nabc", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    b"3\r\nabc\r\n0\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n", b"abcGET /y HTTP/1.1\r\nHost: a\r\n\r\n",
])  # fmt: skip


@st.composite
def made(draw: st.DrawFn) -> bytes:
    """A request put together from parts that are good, nearly good, and known for trouble; most have a Host.

    Nothing follows a request of HTTP/1.0, which ends its connection: h11 alone minds bytes behind that.
    """
    version = draw(VERSIONS)
    start = b" ".join([draw(METHODS), draw(TARGETS), version]) + draw(LINE_ENDS)
    lines = [b"Host: a\r\n"] if draw(st.integers(0, 4)) else []
    lines += [draw(NAMES) + draw(SEPARATORS) + draw(VALUES) + draw(LINE_ENDS) for _ in range(draw(st.integers(0, 3)))]
    fields = b"".join(draw(st.permutations(lines)))
    if version == b"HTTP/1.0":
        return start + fields + b"\r\n" + (b"abc" if b"content-length: 3\r" in fields.lower() else b"")
    return start + fields + b"\r\n" + draw(BODIES)


@given(data=made())
@settings(max_examples=4 * settings.default.max_examples, suppress_health_check=list(HealthCheck))
def test_requests_made_of_troublesome_parts_that_we_accept_are_accepted_by_all_but_one(others: Verdicts, data: bytes):
    """Law: the same for requests that no corpus has."""
    if we_accept(data):
        assert len(rejecting(others, data)) <= 1


def test_the_comparison_can_fail(others: Verdicts):
    """The others do reject what is plainly wrong: their verdicts are not always yes."""
    by_name = {case.name: case.data for case in BAD}
    for name in ("chunk-size-word", "host-twice", "cl-minus"):
        assert len(rejecting(others, by_name[name])) >= len(others) - 1
