"""What is kept beside a decision: small, joined to it without reading it, and nothing where nothing happened."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.access.limits import Allowance, Standing
from ollama_router_core.errors import ConnectFailed
from ollama_router_core.exchange.course import LONGEST, Attempt, Course, attempt_of, kept_course
from ollama_router_core.routing.forwarding import Rejected, Unable, Unreachable

DECISION = '{"strategy":"fastest","others":{}}'


def test_nothing_is_added_where_nothing_happened() -> None:
    """A decision stays as it is, and a request without one keeps nothing; who has no limits has no standing."""
    assert kept_course(Course(), None) is None
    assert kept_course(Course(standing=Standing()), DECISION) == DECISION


def test_it_stands_beside_the_decision_or_alone() -> None:
    """Attempts with their ends, changes, what was left out, and limits; what is empty has no name."""
    tried = attempt_of("big", Unreachable(ConnectFailed("refused"), 0.1), 1.0, 101.00049)
    standing = Standing(requests=Allowance(limit=60, remaining=3, reset=12.34))
    course = Course((tried,), ("m stands in for n",), ("logprobs",), standing)
    told = {
        "attempts": [{"server": "big", "start_ms": 1.0, "end_ms": 101.0, "end": "unreachable", "error": "refused"}],
        "changes": ["m stands in for n"],
        "dropped": ["logprobs"],
        "limits": {"requests": {"limit": 60, "remaining": 3, "reset_seconds": 12.3}},
    }
    assert json.loads(kept_course(course, None) or "") == told
    assert json.loads(kept_course(course, DECISION) or "") == {"strategy": "fastest", "others": {}, **told}


def test_a_server_s_answer_is_told_by_its_status_and_words() -> None:
    """Refused as too much by the status; unable with what it said."""
    assert attempt_of("a", Rejected(503), 0, 1) == Attempt("a", 0, 1, "rejected", 503)
    assert attempt_of("a", Unable(500, "no memory"), 0, 1) == Attempt("a", 0, 1, "unable", 500, "no memory")


@given(st.lists(st.text(max_size=2_000), max_size=40))
def test_it_adds_at_most_2_kib(texts: list[str]) -> None:
    """Whatever servers say, and however many were tried."""
    attempts = tuple(Attempt("s", 0, 1, "broken", error=text) for text in texts)
    kept = kept_course(Course(attempts, tuple(texts), tuple(texts)), DECISION) or ""
    assert len(kept.encode()) <= LONGEST + len(DECISION)
    assert json.loads(kept)["strategy"] == "fastest"
