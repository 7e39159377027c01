"""Parts that tabs share: only between two looks, and only while somebody watches."""

from __future__ import annotations

from ollama_router_server.console.rendering import Rendered
from ollama_router_server.console.shared_parts import SharedParts

PART = Rendered(b"<p>4 running</p>")


def test_a_part_is_kept_until_the_next_look() -> None:
    """What has changed by then is filled anew."""
    moment: list[int | None] = [1]
    parts = SharedParts(lambda: moment[0])
    assert parts.find("now") is None
    parts.keep("now", PART, begun=1)
    assert parts.find("now") is PART
    assert parts.find("servers") is None
    moment[0] = 2
    assert parts.find("now") is None


def test_one_that_was_begun_before_the_look_is_not_kept() -> None:
    """It may be older than what the look found."""
    moment: list[int | None] = [1]
    parts = SharedParts(lambda: moment[0])
    parts.find("now")
    moment[0] = 2
    parts.find("servers")  # by somebody else
    parts.keep("now", PART, begun=1)
    assert parts.find("now") is None


def test_nobody_watches_and_nothing_is_kept() -> None:
    """Pages that ask every two seconds get what is."""
    parts = SharedParts(lambda: None)
    parts.keep("now", PART, begun=parts.moment)
    assert parts.find("now") is None


def test_they_are_few() -> None:
    """However many addresses are asked for between two looks."""
    parts = SharedParts(lambda: 1)
    for number in range(1_000):
        parts.keep(number, PART, begun=1)
    assert sum(parts.find(number) is not None for number in range(1_000)) == 64
