"""The parser matrix: what becomes of every row of the corpus, in-process and over real sockets."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.http_corpus import BAD, GOOD, Bad, Good
from support.strict_front import Front, feed, read_to_end, serve_front


def by_name(case: Bad | Good) -> str:
    """The test's id."""
    return case.name


def cut(data: bytes, places: set[int]) -> list[bytes]:
    """The pieces of `data` between the places."""
    edges = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


# in-process -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOOD, ids=by_name)
def test_good_requests_reach_the_application_as_they_are(case: Good):
    """Every well-formed request is seen once, with its own body, and answered."""
    result = feed([case.data])
    assert result.seen == case.seen
    assert result.statuses == (200,) * len(case.seen)


@pytest.mark.parametrize("case", BAD, ids=by_name)
def test_bad_requests_are_refused_and_the_connection_closes(case: Bad):
    """Nothing ambiguous is answered by the application, and nothing that follows it is looked at."""
    result = feed([case.data + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"])
    assert result.seen == ()
    assert result.statuses == (case.status,)
    assert result.closed


@pytest.mark.parametrize("case", BAD, ids=by_name)
def test_a_good_request_before_a_bad_one_is_answered(case: Bad):
    """The fault of a later request does not touch an earlier one on the same connection."""
    result = feed([b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n" + case.data])
    assert [seen.target for seen in result.seen] == [b"/first"]
    assert result.statuses == (200, case.status)
    assert result.closed


SMALL = [case for case in (*GOOD, *BAD) if len(case.data) < 1000]


def test_what_is_refused_says_that_another_try_does_not_help():
    """Sent again, the same bytes would be refused again."""
    heads = {}
    with serve_front() as front:
        for case in SMALL:
            if isinstance(case, Bad):
                with front.connect() as sock:
                    sock.sendall(case.data)
                    heads[case.name] = read_to_end(sock).partition(b"\r\n\r\n")[0].lower()
    assert len(heads) > 20
    assert [name for name, head in heads.items() if b"\r\nx-should-retry: false" not in head] == []


def test_line_ends_alone_in_a_segment_belong_to_what_waits():
    """Behind an answered request a lone line end means nothing; within a request that waits its turn it does."""
    first, second = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /y HTTP/1.1\r\nHost: a\r\n\r\n"
    segments = [first, second[:24], b"\r\n", b"\r\n"]
    assert b"".join(segments) == first + second
    assert feed(segments, turns=0) == feed([first + second])


@pytest.mark.parametrize("case", SMALL, ids=by_name)
def test_single_bytes_get_the_same_verdict(case: Bad | Good):
    """Law: a connection that drips byte by byte is judged like one that sends all at once."""
    assert feed([bytes([byte]) for byte in case.data]) == feed([case.data])


@pytest.mark.parametrize("case", [case for case in GOOD if len(case.data) < 200], ids=by_name)
def test_every_cut_in_two_gets_the_same_verdict(case: Good):
    """Law: all places for one cut, with another request behind, so that each end of a body is met exactly."""
    data = case.data + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    whole = feed([data])
    for place in range(1, len(data)):
        assert feed([data[:place], data[place:]], turns=1) == whole, place


@settings(max_examples=300)
@given(
    case=st.sampled_from((*GOOD, *BAD)),
    places=st.sets(st.integers(min_value=1, max_value=400), max_size=10),
    turns=st.sampled_from([0, 1, 3]),
)
def test_every_cut_gets_the_same_verdict(case: Bad | Good, places: set[int], turns: int):
    """Law: where segments end, and whether the application ran between them, changes nothing."""
    assert feed(cut(case.data, places), turns=turns) == feed([case.data])


@settings(max_examples=150)
@given(
    first=st.sampled_from(GOOD),
    second=st.sampled_from([case for case in (*GOOD, *BAD) if len(case.data) < 1000]),
    places=st.sets(st.integers(min_value=1, max_value=400), max_size=4),
)
def test_pipelined_pairs_get_the_same_verdict_in_every_cut(first: Good, second: Bad | Good, places: set[int]):
    """Law: the same for two cases on one connection."""
    data = first.data + second.data
    assert feed(cut(data, places), turns=1) == feed([data])


@settings(max_examples=200)
@given(
    case=st.sampled_from([case for case in GOOD if len(case.data) < 400]),
    place=st.integers(min_value=0, max_value=400),
    noise=st.binary(min_size=1, max_size=4),
    replace=st.booleans(),
)
def test_mutated_requests_get_the_same_verdict_in_every_cut(case: Good, place: int, noise: bytes, replace: bool):
    """Law: the same for good requests with a few wrong bytes: no exception, no dependence on segments."""
    place = min(place, len(case.data))
    data = case.data[:place] + noise + case.data[place + len(noise) * replace :]
    whole = feed([data])
    assert feed([bytes([byte]) for byte in data], turns=0) == whole
    assert feed(cut(data, {place, place + len(noise)})) == whole


def test_trailers_are_not_headers():
    """A trailer never becomes a field the application sees, in whichever segment it comes."""
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"3\r\nabc\r\n0\r\nAuthorization: Bearer evil\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"
    for pieces in ([head + body], [head, body], [head + body[:12], body[12:]]):
        (headers,) = feed(pieces).headers
        assert headers == ((b"host", b"a"), (b"transfer-encoding", b"chunked"))


def test_blanks_around_values_are_not_part_of_them():
    """A token with a blank after it is that token."""
    (headers,) = feed([b"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: \t Bearer t \t\r\n\r\n"]).headers
    assert (b"authorization", b"Bearer t") in headers


def test_upgrade_offers_are_invisible():
    """The application is not offered a protocol that we would not speak."""
    (headers,) = feed([b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUPGRADE: h2c\r\nX: y\r\n\r\n"]).headers
    assert headers == ((b"host", b"a"), (b"connection", b"upgrade"), (b"x", b"y"))


# over sockets ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    """A server on each event loop."""
    with serve_front(request.param) as running:
        yield running


@pytest.mark.parametrize("case", BAD, ids=by_name)
def test_refusals_arrive_at_the_client(front: Front, case: Bad):
    """Over a real socket a refusal is one JSON answer with its status, then the end; a flood may be reset instead."""
    answer = front.exchange(case.data)
    if not answer and len(case.data) > 40_000:
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % case.status)
    assert b"connection: close" in head
    assert b"content-type: application/json" in head
    assert list(json.loads(body)) == ["error"]


@pytest.mark.parametrize("case", GOOD, ids=by_name)
def test_good_requests_are_answered(front: Front, case: Good):
    """Over a real socket every request of the corpus is answered and the connection stays in order."""
    before = len(front.app.seen)
    with front.connect() as sock:
        sock.sendall(case.data)
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < len(case.seen):
            part = sock.recv(65536)
            assert part, "closed before every request was answered"
            received += part
        if b"connection: close" not in received and b"HTTP/1.0" not in case.data:
            sock.sendall(b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        read_to_end(sock)
    assert tuple(front.app.seen[before : before + len(case.seen)]) == case.seen


def test_a_refusal_is_read_even_while_the_client_still_sends(front: Front):
    """What is on its way when a request is refused does not turn the reason into a reset."""
    with front.connect() as sock:
        sock.sendall(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(20):
            sock.sendall(b"x" * 4096)
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock).startswith(b"HTTP/1.1 400 ")
