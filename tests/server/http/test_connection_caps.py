"""Connections are capped in total and by address; for a new one the idlest is closed, never one with a request."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
from structlog.testing import capture_logs

from ollama_router_server.http.connection_caps import ConnectionCaps
from ollama_router_server.http.file_limit import most_connections
from support.strict_front import serve_front


class Counted:
    """A connection that remembers whether it was closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False

    def close(self) -> None:
        """Begin to close."""
        self.closed = True


def opened(caps: ConnectionCaps, count: int, peer: str, *, total: int = 100, of_one: int = 10) -> list[Counted]:
    """Open connections of one address."""
    made = [Counted(f"{peer}-{number}") for number in range(count)]
    for connection in made:
        caps.opened(connection, peer, total=total, of_one=of_one, now=0.0)
    return made


def test_the_idlest_of_an_address_goes_first() -> None:
    """And those of other addresses stay."""
    caps = ConnectionCaps()
    (neighbour,) = opened(caps, 1, "192.0.2.9")
    made = opened(caps, 12, "192.0.2.1")
    assert [connection.closed for connection in made] == [True] * 2 + [False] * 10
    assert not neighbour.closed
    assert len(caps) == 11


def test_a_connection_with_a_request_is_never_closed() -> None:
    """One that became idle later goes later; if all are busy, the new one goes."""
    caps = ConnectionCaps()
    made = opened(caps, 10, "192.0.2.1")
    for connection in made:
        caps.busy(connection)
    caps.idle(made[7])
    caps.idle(made[3])
    opened(caps, 1, "192.0.2.1")
    assert [connection.closed for connection in made].index(True) == 7
    caps.busy(made[3])
    (late, later) = opened(caps, 2, "192.0.2.1")
    assert late.closed or later.closed
    assert sum(connection.closed for connection in made) == 1


def test_the_total_is_capped_too() -> None:
    """Strangers with many addresses push each other out."""
    caps = ConnectionCaps()
    made = [connection for number in range(40) for connection in opened(caps, 1, f"192.0.2.{number}", total=30)]
    assert [connection.closed for connection in made] == [True] * 10 + [False] * 30


def test_trusted_proxies_have_no_cap_of_their_own() -> None:
    """Everybody comes from there."""
    caps = ConnectionCaps(lambda address: address == "10.0.0.1")
    assert not any(connection.closed for connection in opened(caps, 50, "10.0.0.1"))


def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    """One client has the whole /64; IPv4 on a dual-stack socket is what it is."""
    caps = ConnectionCaps()
    made = [connection for number in range(20) for connection in opened(caps, 1, f"2001:db8::{number:x}")]
    assert sum(connection.closed for connection in made) == 10
    mapped = [connection for number in range(20) for connection in opened(caps, 1, f"::ffff:192.0.2.{number}")]
    assert not any(connection.closed for connection in mapped)


def test_nothing_is_left_of_closed_connections() -> None:
    """Not of those that were shed, and not of those whose clients left."""
    caps = ConnectionCaps()
    for connection in opened(caps, 20, "192.0.2.1"):
        caps.closed(connection)
    assert len(caps) == 0
    assert not any(connection.closed for connection in opened(caps, 10, "192.0.2.1"))


def test_a_flood_is_one_line() -> None:
    """With the address; the count follows when the period is over."""
    caps = ConnectionCaps()
    with capture_logs() as entries:
        opened(caps, 1_000, "192.0.2.1")
    assert [(entry["event"], entry["client"]) for entry in entries] == [("connections_shed", "192.0.2.1")]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_neighbour_is_answered_while_a_stranger_holds_connections(loop: str) -> None:
    """On sockets: 60 idle ones of one address where 20 are allowed; the owner of another address is served."""
    with serve_front(loop, connections_of_one=20, header_timeout=30.0) as front, ExitStack() as open_ones:
        for _ in range(60):
            sock = open_ones.enter_context(socket.create_connection(("127.0.0.1", front.port), timeout=10))
        neighbour = open_ones.enter_context(
            socket.create_connection(("127.0.0.1", front.port), timeout=10, source_address=("127.0.0.2", 0))
        )
        for each in (sock, neighbour):
            each.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert each.recv(100).startswith(b"HTTP/1.1 200")
        assert len(front.server.server_state.connections) <= 21


def test_the_files_of_the_process_have_room_for_them() -> None:
    """Two for each connection, and some for everything else."""
    assert most_connections() >= 1
