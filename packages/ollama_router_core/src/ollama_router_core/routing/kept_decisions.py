"""The decision as logged with its request: small enough for a row, complete enough to explain the choice later."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ollama_router_core.records.user_text import shown_within
from ollama_router_core.routing.decision import Decision, Verdict
from ollama_router_core.routing.expected_time import ExpectedTime

__all__ = ["LONGEST", "kept_decision"]

LONGEST: Final = 2048
"""Maximum bytes of the encoded decision."""
_MOST: Final = 8
_encode = msgspec.json.Encoder().encode


def kept_decision(decision: Decision) -> str:
    """Encode the decision as JSON of at most 2 KiB: its first servers, at most 8, and counts of the others by reason.

    `{"strategy", "server", "reason", "candidates": [{"server", "verdict", "reasons": [{"code", "text"}], "bytes",
    "memory", "ready_seconds", "done_seconds"}], "others": {CODE: COUNT}, "expected": {"wait_seconds", "load_seconds",
    "prefill_seconds", "decode_seconds"}}`; unknown members are omitted. `expected` is that of the chosen server, from
    the decision on; prefill excludes the savings of a cached prefix.
    """
    most = _MOST
    while True:
        first, others = decision.explanation.summary(most)
        text = _encode(_document(decision, first, others))
        if len(text) <= LONGEST or not most:
            return text.decode()
        most -= 1


def _document(decision: Decision, first: tuple[Verdict, ...], others: Any) -> dict[str, Any]:
    name = decision.request.model_text
    expected = decision.explanation.expectation
    return {
        "strategy": decision.strategy,
        "server": decision.server,
        "reason": shown_within(decision.reason, name),
        "candidates": [_candidate(verdict, name) for verdict in first],
        "others": dict(others),
        **({} if expected is None else {"expected": _expected(expected)}),
    }


def _expected(expected: ExpectedTime) -> dict[str, float]:
    seconds = {
        "wait": expected.wait,
        "load": expected.load,
        "prefill": expected.prefill + expected.affinity,
        "decode": expected.decode,
    }
    return {f"{name}_seconds": round(value, 3) for name, value in seconds.items()}


def _candidate(verdict: Verdict, model: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "server": verdict.server,
        "verdict": verdict.verdict,
        "reasons": [{"code": reason.code, "text": shown_within(reason.text, model)} for reason in verdict.reasons],
    }
    if verdict.estimate is not None:
        found |= {"bytes": verdict.estimate.size, "memory": str(verdict.estimate)}
    if verdict.expected is not None:
        found |= {"ready_seconds": round(verdict.expected.ready, 3), "done_seconds": round(verdict.expected.done, 3)}
    return found
