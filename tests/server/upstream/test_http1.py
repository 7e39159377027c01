"""What the bytes of an exchange mean, without any socket."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_router_server.upstream.http1 import MAX_HEAD, MAX_PIECE, ResponseParser, encode_head
from ollama_router_server.upstream.interface import Origin, UpstreamRequest

HOST = b"host: h:1\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

ANSWERS = [
    OK + b"Content-Length: 5\r\n\r\nhello",
    OK + b"Content-Length: 0\r\n\r\n",
    CHUNKED + b"3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\n\r\n",
    CHUNKED + b"3\r\nabc\r\n0\r\nAuthorization: evil\r\nX: y\r\n\r\n",
    OK + b"\r\nuntil the end",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
    OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 6\r\n\r\npoison",
    OK + b"Content-Length: 10\r\n\r\nshort",
    CHUNKED + b"5\r\nhel",
    CHUNKED + b"3\r\nabc\r\nzz\r\n",
    CHUNKED + b"3\r\nabcXX0\r\n\r\n",
    CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    CHUNKED + b"fffffffffffffffff\r\nabc",
    OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    OK + b"Content-Length: 3, 3\r\n\r\nabc",
    OK + b"Content-Length:\r\n\r\nabc",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked, gzip\r\n\r\nabc",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nother protocol",
    b"HTTP/1.1 101 Switching\r\n\r\n",
    OK + b"X: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
    OK + b"X: a\nContent-Length: 0\r\n\r\n",
    OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    b"SSH-2.0-OpenSSH\r\n",
]

BROKEN = ANSWERS[13:]


@dataclass(frozen=True)
class Outcome:
    """All that a caller can learn from an answer."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    complete: bool
    keep_alive: bool
    broken: bool


def outcome(pieces: list[bytes], *, head_only: bool = False, before: bytes | None = None) -> Outcome:
    """Feed the pieces and the end of the connection to a new parser, or to one that has read `before`."""
    parser = ResponseParser()
    if before is not None:
        parser.begin()
        parser.feed(before)
        parser.discard()
    parser.begin(head_only=head_only)
    for piece in pieces:
        parser.feed(piece)
    keep_alive = parser.complete and parser.keep_alive
    parser.feed_eof()
    body = b""
    while piece := parser.take():
        body += piece
    return Outcome(parser.status, parser.headers, body, parser.complete, keep_alive, parser.broken is not None)


def cut(data: bytes, places: set[int]) -> list[bytes]:
    """The pieces of `data` between the places."""
    edges = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("head_only", [False, True])
def test_every_single_cut_gives_the_same_outcome(answer: bytes, head_only: bool):
    """Law: where one segment ends and the next begins means nothing; all cuts in two, and all bytes alone."""
    whole = outcome([answer], head_only=head_only)
    for place in range(1, len(answer)):
        assert outcome(cut(answer, {place}), head_only=head_only) == whole, place
    assert outcome([bytes([byte]) for byte in answer], head_only=head_only) == whole


@given(
    answer=st.sampled_from(ANSWERS),
    places=st.sets(st.integers(min_value=1, max_value=150), max_size=12),
    head_only=st.booleans(),
)
def test_every_cut_gives_the_same_outcome(answer: bytes, places: set[int], head_only: bool):
    """Law: the same for any number of cuts at any places."""
    assert outcome(cut(answer, places), head_only=head_only) == outcome([answer], head_only=head_only)


@settings(max_examples=200)
@given(
    change=st.binary(max_size=4),
    place=st.integers(min_value=0, max_value=len(ANSWERS[0])),
    places=st.sets(st.integers(min_value=1, max_value=50), max_size=3),
)
def test_what_came_before_on_a_connection_changes_nothing(change: bytes, place: int, places: set[int]):
    """Law: an answer means the same as the first on a connection and as the second, in every cut."""
    second = ANSWERS[0][:place] + change + ANSWERS[0][place + len(change) :]
    assert outcome(cut(second, places), before=ANSWERS[0]) == outcome([second])


@settings(max_examples=200)
@given(noise=st.binary(max_size=200), places=st.sets(st.integers(min_value=1, max_value=200), max_size=6))
def test_noise_after_a_status_line_is_judged_alike_in_every_cut(noise: bytes, places: set[int]):
    """Law: the same for bytes that nobody thought of, and none of them raises."""
    data = b"HTTP/1.1 200 OK\r\n" + noise
    assert outcome(cut(data, places)) == outcome([data])


@pytest.mark.parametrize("answer", BROKEN)
def test_broken_answers_are_never_complete(answer: bytes):
    """What cannot be trusted has a reason, is not complete, and its connection is not used again."""
    result = outcome([answer])
    assert result.broken
    assert not result.complete
    assert not result.keep_alive


@pytest.mark.parametrize("status", [0, 99, 101, 600, 700, 999])
def test_a_status_that_is_none_of_an_answer_is_refused(status: int):
    """RFC 9110 15: 600 and above are invalid; the client gets 502."""
    assert outcome([b"HTTP/1.1 %03d Odd\r\nContent-Length: 0\r\n\r\n" % status]).broken


def test_what_came_before_a_broken_chunk_stays_readable():
    """A client may be shown the tokens that arrived before the framing broke."""
    result = outcome([CHUNKED + b"3\r\nabc\r\nzz\r\n"])
    assert (result.status, result.body) == (200, b"abc")


def test_surplus_bytes_spoil_the_connection_but_not_the_answer():
    """An answer nobody asked for must never meet the next request."""
    result = outcome([OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 0\r\n\r\n"])
    assert (result.body, result.complete, result.keep_alive, result.broken) == (b"ok", True, False, False)


def test_trailers_are_dropped():
    """A trailer is not a field, whatever its name."""
    assert outcome([CHUNKED + b"0\r\nX-Late: 1\r\n\r\n"]).headers == ((b"transfer-encoding", b"chunked"),)


def head_of(size: int) -> bytes:
    """An answer whose head has exactly `size` bytes."""
    start = OK + b"Content-Length: 0\r\nX: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("step", [1000, 4096, MAX_HEAD, 10 * MAX_HEAD])
@pytest.mark.parametrize(("size", "fits"), [(MAX_HEAD, True), (MAX_HEAD + 1, False), (5 * MAX_HEAD, False)])
def test_head_limit_is_exact_in_every_cut(step: int, size: int, fits: bool):
    """32 KiB of head pass, one byte more does not, and what follows the head does not count."""
    data = head_of(size)
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    assert outcome(pieces).broken is not fits
    with_body = data.replace(b"Content-Length: 0", b"Content-Length: 9") + b"x" * 9
    assert outcome([with_body[start : start + step] for start in range(0, len(with_body), step)]).complete is fits


def test_interim_answers_count_towards_the_head():
    """A server that sends 1xx for ever is not waited for for ever."""
    assert outcome([b"HTTP/1.1 100 Continue\r\n\r\n" * 2000]).broken


@pytest.mark.parametrize("start", [b"3;" + b"e" * 100_000, b"0\r\nX: " + b"t" * 100_000])
def test_endless_extensions_and_trailers_are_cut(start: bytes):
    """What is dropped is bounded too."""
    data = CHUNKED + start
    assert outcome([data[at : at + 1000] for at in range(0, len(data), 1000)]).broken


def test_connection_goes_on_after_an_answer_to_head():
    """The parser is told the method: after HEAD comes a new answer, not the body that was announced."""
    parser = ResponseParser()
    parser.begin(head_only=True)
    parser.feed(OK + b"Content-Length: 5\r\n\r\n")
    assert parser.complete
    assert parser.keep_alive
    parser.begin()
    parser.feed(OK + b"Content-Length: 2\r\n\r\nok")
    assert parser.complete
    assert parser.take() == b"ok"


def test_pieces_are_bounded():
    """`take` joins what came together, but never to more than 256 KiB."""
    parser = ResponseParser()
    parser.begin()
    parser.feed(OK + b"Content-Length: 640000\r\n\r\n")
    for _ in range(10):
        parser.feed(b"x" * 64_000)
    sizes = []
    while piece := parser.take():
        sizes.append(len(piece))
    assert sizes == [256_000, 256_000, 128_000]
    assert max(sizes) <= MAX_PIECE


def request(**fields: object) -> UpstreamRequest:
    """A request with something to hide."""
    return UpstreamRequest(**{"origin": Origin("http", "h", 1), "method": "POST", "target": "/", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"target": "/a b"},
        {"target": "/a\r\nX: y"},
        {"target": "/\x00"},
        {"target": "/é"},
        {"method": "GET /x HTTP/1.1\r\nX:"},
        {"headers": ((b"x", b"a\r\nY: b"),)},
        {"headers": ((b"x", b"a\nY: b"),)},
        {"headers": ((b"x\r\ny", b"a"),)},
        {"headers": ((b"x", b"\x00"),)},
        {"headers": ((b"host", b"other"),)},
        {"headers": ((b"content-length", b"0"),)},
        {"headers": ((b"transfer-encoding", b"chunked"),)},
        {"headers": ((b"connection", b"close"),)},
    ],
)
def test_a_head_cannot_be_split_or_reframed(fields: dict[str, object]):
    """What comes from a client cannot become a second field, a second request, or another framing."""
    with pytest.raises(ValueError):  # noqa: PT011  # each has its own text, all are refusals
        encode_head(request(**fields), HOST)


@given(
    headers=st.lists(
        st.tuples(st.sampled_from([b"x", b"accept", b"user-agent"]), st.binary(max_size=20)), max_size=4
    ).map(tuple),
    target=st.text(max_size=20).map(lambda text: "/" + text),
)
def test_an_encoded_head_has_exactly_our_lines(headers: tuple[tuple[bytes, bytes], ...], target: str):
    """Law: a head is refused, or has one line for each field given, plus start, Host and length."""
    try:
        head = encode_head(request(headers=headers, target=target), HOST)
    except ValueError:
        return
    assert head.count(b"\r\n") == len(headers) + 4
    assert head.count(b"\n") == head.count(b"\r") == len(headers) + 4
