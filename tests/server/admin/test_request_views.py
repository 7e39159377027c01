"""Where a request's time went: parts that add up, whatever was reported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_server.admin.views.requests import phases_of, request_detail, sentence_of
from support.records import make_record

TIMES = st.none() | st.floats(0, 1e7)


@given(
    total=st.floats(0, 1e7), queue=TIMES, connect=TIMES, load=TIMES, prefill=TIMES, decode=TIMES, ttft=TIMES,
    tokens=st.none() | st.integers(0, 100), streamed=st.booleans(),
)  # fmt: skip
def test_parts_add_up_to_the_total(
    total: float, queue: float | None, connect: float | None, load: float | None, prefill: float | None,
    decode: float | None, ttft: float | None, tokens: int | None, streamed: bool,
) -> None:  # fmt: skip
    """To the millisecond, each of them positive, though a server may report more time than there was."""
    row = make_record(
        1, total_ms=total, queue_ms=queue, connect_ms=connect, load_ms=load, prefill_ms=prefill, decode_ms=decode,
        ttft_ms=ttft, completion_tokens=tokens, streamed=streamed,
    )  # fmt: skip
    parts = phases_of(row)
    assert abs(sum(part.ms for part in parts) - total) < 1
    assert all(part.ms > 0 for part in parts)


def test_reports_of_the_server_are_told_as_they_are() -> None:
    """What is left is told as not explained: nothing is stretched."""
    row = make_record(
        1, server="big", model_served="llama3.3:70b", total_ms=41_000.0, queue_ms=500.0, connect_ms=3_000.0,
        load_ms=30_000.0, prefill_ms=2_000.0, decode_ms=4_500.0, prompt_tokens=1900, completion_tokens=212,
    )  # fmt: skip
    found = {part.name: part.ms for part in phases_of(row)}
    assert found == {
        "queue": 500.0, "connect": 3_000.0, "load": 30_000.0, "prefill": 2_000.0, "decode": 4_500.0,
        "unexplained": 1_000.0,
    }  # fmt: skip
    assert sentence_of(row) == (
        "Took 41 s: 3.0 s until big was reached, 30 s loading llama3.3:70b on big, 2.0 s reading 1,900 tokens, "
        "4.5 s writing 212 tokens, 1.0 s of which big reported nothing."
    )


def test_why_a_model_was_loaded_is_told_as_it_was_decided() -> None:
    """How far the chosen server was, and which others were full; without a decision nothing is made up."""

    def candidate(server: str, verdict: str, code: str) -> dict[str, object]:
        return {"server": server, "verdict": verdict, "reasons": [{"code": code, "text": ""}]}

    rows = [
        candidate("big", "chosen", "cold"),
        candidate("mid", "refused", "full"),
        candidate("low", "refused", "down"),
    ]
    kept = {"strategy": "fastest", "server": "big", "reason": "", "candidates": rows, "others": {}}
    row = make_record(1, server="big", total_ms=3_000.0, load_ms=3_000.0, decision=json.dumps(kept))
    assert request_detail(row).sentence == "Took 3.0 s: 3.0 s loading llama3.1:8b on big (not in memory, mid was full)."


def test_one_token_is_told_as_one() -> None:
    """Of a prompt as of an answer."""
    row = make_record(
        1, total_ms=1_000.0, queue_ms=0.0, connect_ms=0.0, load_ms=0.0, prefill_ms=400.0, decode_ms=600.0,
        prompt_tokens=1, completion_tokens=1,
    )  # fmt: skip
    assert sentence_of(row) == "Took 1.0 s: 400 ms reading 1 token, 600 ms writing 1 token."


def test_a_host_that_reports_nothing_has_one_part() -> None:
    """An answer that came at once tells nothing about its parts."""
    row = make_record(1, total_ms=900.0, queue_ms=0.0, load_ms=None, ttft_ms=880.0, streamed=False)
    assert [part.name for part in phases_of(row)] == ["unexplained"]


def decided(**expected: float) -> str:
    """A decision for `big`, with what was expected of it, if that was kept."""
    kept = {"expected": {f"{name}_seconds": value for name, value in expected.items()}} if expected else {}
    return json.dumps({"strategy": "fastest", "server": "big", "reason": "", "candidates": [], "others": {}, **kept})


def test_what_was_expected_stands_beside_what_came() -> None:
    """What was said about the line counts as waiting; a part of nothing is left out; the sentence names the sum."""
    row = make_record(
        1, server="big", total_ms=41_000.0, queue_ms=8_000.0, expected_wait_ms=6_000.0, load_ms=33_000.0,
        decision=decided(wait=0.5, load=31.0, prefill=0.5, decode=0.0),
    )  # fmt: skip
    detail = request_detail(row)
    assert {part.name: part.ms for part in detail.expected or ()} == {"queue": 6_500, "load": 31_000, "prefill": 500}
    assert detail.sentence.endswith("33 s loading llama3.1:8b on big; expected 38 s.")


@pytest.mark.parametrize(
    "fields", [{"server": "mid", "decision": decided(wait=0, load=1, prefill=1, decode=1)}, {"decision": decided()}, {}]
)
def test_what_nobody_kept_is_not_expected(fields: dict[str, Any]) -> None:
    """Another server than the chosen one, a row of before, a request of which no decision was kept."""
    assert request_detail(make_record(1, **fields)).expected is None
