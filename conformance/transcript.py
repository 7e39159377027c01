"""Recorded exchanges: what a running server answered, to be compared with what another answers to the same bytes."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conformance.catalogue import Exchange
from conformance.comparison import Difference, compare
from conformance.masks import masked
from conformance.wire import Answer, Request

__all__ = ["Recorded", "compare_with_record", "read_transcript", "recorded_models"]

_TEXTS = frozenset({"content", "response", "text", "thinking", "reasoning", "arguments", "partial_json", "delta"})
_COUNTS = frozenset(
    {"prompt_eval_count", "eval_count", "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens"}
    | {"output_tokens", "sequence_number", "prompt_eval_cached_count"}
)
_REASONS = {"done_reason": frozenset({"stop", "length"}), "finish_reason": frozenset({"stop", "length"})}
_REASONS["stop_reason"] = frozenset({"end_turn", "max_tokens", "stop_sequence"})
_VECTORS = frozenset({"context", "embedding", "embeddings"})
_NO_NETWORK = 'pull model manifest: Get "'  # the recording machine had none, and so no server that could say more
_OWN_TIMES = frozenset({"modified_at", "created"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One exchange with its recorded answers; `cut` holds the numbers of answers whose end was not kept."""

    exchange: Exchange
    answers: tuple[Answer, ...]
    cut: frozenset[int]


def read_transcript(path: Path, known: Iterable[Exchange] = ()) -> list[Recorded]:
    """Read a file of one JSON object a line: `requests`, and `answers` with status, headers, framing and chunks.

    Exchanges among `known` lend their names and topics to recorded ones with the same requests. Those whose requests
    were not kept whole are left out: they cannot be sent again.
    """
    named = {exchange.requests: exchange for exchange in known}
    found: list[Recorded] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            row = json.loads(line)
            if any(_is_cut(request["body"]) for request in row["requests"]):
                continue
            requests = tuple(map(_request, row["requests"]))
            label = f"{requests[0].method} {requests[0].path}, line {number + 1}"
            exchange = named.get(requests) or Exchange(group="recorded", name=label, requests=requests)
            cut = {place for place, answer in enumerate(row["answers"]) if any(map(_is_cut, answer["chunks"]))}
            found.append(Recorded(exchange=exchange, answers=tuple(map(_answer, row["answers"])), cut=frozenset(cut)))
    return found


def compare_with_record(recorded: Recorded, answers: Sequence[Answer]) -> list[Difference]:
    """Everything that differs but times, ids, counts of tokens and generated text.

    Of an answer that was cut, the keys that were kept are compared.
    """
    pairs = list(zip(recorded.answers, answers, strict=True))
    direct = [
        _without_words(replace(one, reusable=other.reusable), cut=number in recorded.cut)
        for number, (one, other) in enumerate(pairs)
    ]
    through = [
        _shortened(_without_words(other), one) if number in recorded.cut else _without_words(other)
        for number, (one, (_, other)) in enumerate(zip(direct, pairs, strict=True))
    ]
    return compare(recorded.exchange, direct, through)


def recorded_models(recorded: Iterable[Recorded]) -> tuple[Mapping[str, Any], ...]:
    """The entries of the first recorded `/api/tags`."""
    for one in recorded:
        if one.exchange.requests[0].path == "/api/tags" and one.answers[0].status == 200:
            return tuple(one.answers[0].json()["models"])
    return ()


def _is_cut(value: Any) -> bool:
    return isinstance(value, dict) and "cut" in value


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"]) if "base64" in value else str(value["cut"]).encode()
    return str(value).encode()


def _request(row: Mapping[str, Any]) -> Request:
    body, pieces = row["body"], row["pieces"]
    return Request(
        method=row["method"],
        path=row["path"],
        headers=tuple((name, value) for name, value in row["headers"]),
        body=None if body is None else _bytes(body),
        pieces=None if pieces is None else tuple(map(_bytes, pieces)),
        expects=row["expects"],
    )


def _answer(row: Mapping[str, Any]) -> Answer:
    return Answer(
        status=row["status"],
        headers=tuple((name, value) for name, value in row["headers"]),
        framing=row["framing"],
        chunks=tuple(map(_bytes, row["chunks"])),
        interim=tuple(row["interim"]),
        problem=row["problem"],
    )


def _without_words(answer: Answer, *, cut: bool = False) -> Answer:
    """The answer with a word in place of what a model said; lines or events of one shape that follow are one."""
    kind = (answer.header("content-type") or "").partition(";")[0]
    body = b"".join(masked(answer.chunks, lists_models=False, own_digest=True, nonce=""))
    if kind == "application/x-ndjson":
        parts = [_reworded(line) + b"\n" for line in body.splitlines()]
    elif kind == "text/event-stream":
        parts = [_reworded_event(event) + b"\n\n" for event in body.split(b"\n\n") if event]
    elif cut:
        parts = [json.dumps(dict.fromkeys(_kept_keys(body.decode()))).encode()]
    else:
        parts = [_reworded(body, end=body.endswith(b"\n"))] if body else []
    return replace(answer, chunks=tuple(part for part, _ in itertools.groupby(parts)))


def _shortened(answer: Answer, record: Answer) -> Answer:
    """The keys of an answer, as many as the record of it kept."""
    kept, given = record.json(), answer.json()
    if not isinstance(given, dict) or kept is None:
        return answer
    return replace(answer, chunks=(json.dumps(dict.fromkeys(itertools.islice(given, len(kept)))).encode(),))


def _kept_keys(text: str) -> Iterator[str]:
    """The outer keys in the beginning of a JSON object, the last of which may have lost its value."""
    decoder, place = json.JSONDecoder(), 1
    while (found := re.compile(r'\s*,?\s*"([^"]+)"\s*:\s*').match(text, place)) is not None:
        yield found[1]
        try:
            _, place = decoder.raw_decode(text, found.end())
        except ValueError:
            return


def _reworded_event(event: bytes) -> bytes:
    lines = (line.partition(b": ") for line in event.split(b"\n"))
    return b"\n".join(name + colon + _reworded(value) for name, colon, value in lines)


def _reworded(text: bytes, *, end: bool = False) -> bytes:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return json.dumps(_replaced("", value)).encode() + (b"\n" if end else b"")


def _replaced(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(name, one) for name, one in value.items()}
    if isinstance(value, list):
        return "NUMBERS" if key in _VECTORS and value else [_replaced(key, one) for one in value]
    if key in _COUNTS or key in _OWN_TIMES:
        return "NUMBER"
    return _replaced_text(key, value) if isinstance(value, str) else value


def _replaced_text(key: str, value: str) -> str:
    if value.startswith(_NO_NETWORK):
        return "pull model manifest: file does not exist"
    if key in _TEXTS and value:
        return "WORDS"
    return "REASON" if value in _REASONS.get(key, frozenset()) else value
