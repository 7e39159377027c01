"""How long a request may wait: the shortest of what rules, grants and its client say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.access.grants import Grants, combine_grants, grants_by_token
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import InvalidHeader
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.waiting import USUAL, Waiting, waiting_of
from support.fleets import make_request

RULES = [
    {"pattern": "nightly*", "max_wait": 7200.0, "priority": "batch"},
    {"pattern": "chat*", "max_wait": 20.0},
]
CONFIG = Config.model_validate({"queue": {"max_wait": 60.0}, "model_config": {"rules": RULES}})


def waiting(model="llama3.1:8b", grants=None, **fields):
    """What holds for a request with these header fields; a list is a field sent in several lines."""
    headers = tuple(
        (name.replace("_", "-").encode(), line.encode())
        for name, value in fields.items()
        for line in ([value] if isinstance(value, str) else value)
    )
    context = RequestContext(id="1", method="POST", path="/api/chat", headers=headers, started=0.0, started_at=0.0)
    context.route = make_request(model)
    context.user = SimpleNamespace(grants=grants or Grants())
    return waiting_of(CONFIG, context)


def test_usually_the_queue_decides():
    """Nobody said anything."""
    assert waiting() is USUAL


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"x_router_max_wait": "5"}, 5.0),
        ({"x_router_max_wait": "2.5"}, 2.5),
        ({"x_router_max_wait": "900"}, 60.0),
        ({"prefer": "wait=10"}, 10.0),
        ({"prefer": "respond-async, wait=10"}, 10.0),
        ({"prefer": "respond-async"}, None),
        ({"prefer": "await=10"}, None),
        ({"prefer": "wait=10", "x_router_max_wait": "4"}, 4.0),
        ({"prefer": ["wait=10", "respond-async"]}, 10.0),
        ({"prefer": ["respond-async", "wait=10"]}, 10.0),
        ({"prefer": ["wait=10", "wait=5"]}, 10.0),
    ],
)
def test_a_client_may_wait_for_less(fields, seconds):
    """`X-Router-Max-Wait`, or the first `Prefer: wait` (RFC 7240); never longer than the operator allows."""
    assert waiting(**fields).max_wait == seconds


def test_a_rule_may_allow_more_than_the_queue():
    """A job of the night waits for hours; its client may still want less."""
    assert waiting("nightly:8b") == Waiting(7200.0, batch=True)
    assert waiting("nightly:8b", x_router_max_wait="3600").max_wait == 3600.0
    assert waiting("chat:8b").max_wait == 20.0


def test_grants_bound_a_user_or_group():
    """The shortest holds."""
    assert waiting(grants=Grants(max_wait=30)).max_wait == 30.0
    assert waiting("chat:8b", grants=Grants(max_wait=30)).max_wait == 20.0
    assert waiting(grants=Grants(max_wait=5000)).max_wait == 60.0


def test_priority_only_goes_down():
    """A client may give way; what a rule or a grant calls batch stays so."""
    assert waiting(x_router_priority="batch").batch
    assert not waiting(x_router_priority="Interactive").batch
    assert waiting("nightly:8b", x_router_priority="interactive").batch
    assert waiting(grants=Grants(batch=True), x_router_priority="interactive").batch


@given(
    rule=st.booleans(),
    own=st.sampled_from([None, False, True]),
    group=st.sampled_from([None, False, True]),
    token=st.booleans(),
    header=st.sampled_from([None, "interactive", "batch"]),
)
def test_a_token_or_a_client_lowers_the_priority_and_never_raises_it(rule, own, group, token, header):
    """What rule, grant and group make of a request stays; a token's word or a client's can only make it batch."""
    model, fields = "nightly:8b" if rule else "llama3.1:8b", {} if header is None else {"x_router_priority": header}
    granted = combine_grants(Grants(batch=own), Grants(batch=group))
    without = waiting(model, granted).batch
    found = waiting(model, grants_by_token(granted, batch=token), **fields).batch
    assert found == (without or token or header == "batch")


@pytest.mark.parametrize(
    "fields",
    [
        {"x_router_max_wait": "soon"},
        {"x_router_max_wait": "-1"},
        {"x_router_max_wait": ["5", "9"]},
        {"x_router_priority": "urgent"},
        {"x_router_priority": ["batch", "interactive"]},
    ],
)
def test_what_cannot_be_read_is_an_error(fields):
    """A wait or a priority that a client believes in must not be ignored."""
    with pytest.raises(InvalidHeader):
        waiting(**fields)
