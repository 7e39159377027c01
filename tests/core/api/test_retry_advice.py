"""Every error says whether to try again: a field that stops clients, or one that tells them when."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ollama_router_core import errors
from ollama_router_core.api.retry_advice import RETRIES, Retry, retry_fields
from ollama_router_core.errors import RouterError, UpstreamTimeout
from ollama_router_core.translate import UntranslatableRequest

NO = ((b"x-should-retry", b"false"),)


def kinds(parent: type[RouterError]) -> Iterator[type[RouterError]]:
    """A class and all that were derived from it."""
    yield parent
    for child in parent.__subclasses__():
        yield from kinds(child)


def made(kind: type[RouterError], **more: float) -> RouterError:
    """An error of a kind."""
    if kind is UpstreamTimeout:
        return UpstreamTimeout("why", phase="first_byte")
    return kind("why", **more)


@pytest.mark.parametrize(
    "kind", sorted(set(kinds(RouterError)), key=lambda kind: kind.code), ids=lambda kind: kind.code
)
@pytest.mark.parametrize("sent", [False, True])
def test_every_error_has_one_of_the_two(kind: type[RouterError], sent: bool) -> None:
    """A 4xx never invites another try unless waiting heals it."""
    ((name, value),) = retry_fields(made(kind), sent=sent)
    if name == b"retry-after":
        assert kind.status_hint in {429, 502, 503}
        assert int(value) >= 1
    else:
        assert (name, value) == NO[0]


@pytest.mark.parametrize(
    ("kind", "unsent", "sent"),
    [
        (errors.InvalidCredential, False, False),
        (errors.ModelNotFound, False, False),
        (errors.ModelTooLarge, False, False),
        (UntranslatableRequest, False, False),
        (errors.LimitExceeded, True, True),
        (errors.NoServerFits, True, True),
        (errors.ConnectFailed, True, True),
        (errors.Overloaded, True, False),
        (errors.StorageUnavailable, True, False),
        (errors.UpstreamTimeout, False, False),
        (errors.UpstreamDisconnected, False, False),
        (errors.PartlyDone, False, False),
    ],
)
def test_what_can_be_healed(kind: type[RouterError], unsent: bool, sent: bool) -> None:
    """And what must not be tried again because it may have run."""
    for was_sent, heals in ((False, unsent), (True, sent)):
        ((name, _),) = retry_fields(made(kind), sent=was_sent)
        assert (name == b"retry-after") is heals


@pytest.mark.parametrize(("seconds", "told"), [(None, b"5"), (0.0, b"1"), (0.2, b"1"), (1.2, b"2"), (60.0, b"60")])
def test_nobody_is_told_to_come_too_early(seconds: float | None, told: bytes) -> None:
    """Whole seconds, at least one; a few where nothing better is known."""
    assert retry_fields(errors.LimitExceeded("why", retry_after=seconds), sent=False) == ((b"retry-after", told),)


def test_the_table_lists_every_branch() -> None:
    """What a class does not say itself it has from its parent, which is listed."""
    assert set(RETRIES.values()) == set(Retry)
    branches = {kind for kind in kinds(RouterError) if kind.__subclasses__() and kind.__module__ == errors.__name__}
    assert branches <= set(RETRIES)
