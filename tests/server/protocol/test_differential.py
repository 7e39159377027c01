"""The same bytes to us and to parsers we did not write: we accept nothing that two of them reject."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

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


def test_the_comparison_can_fail(others: Verdicts):
    """The others do reject what is plainly wrong: their verdicts are not always yes."""
    by_name = {case.name: case.data for case in BAD}
    for name in ("chunk-size-word", "host-twice", "cl-minus"):
        assert len(rejecting(others, by_name[name])) >= len(others) - 1
