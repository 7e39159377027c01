"""The result as a table for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from conformance.by_design import ROWS
from conformance.playing import Result
from conformance.subject import Subject

__all__ = ["as_json", "as_text"]

_ADDED = {
    "X-Router headers",
    "X-Should-Retry",
    "streams are not buffered",
}  # in every answer or stream: counted, but not as an exchange


def as_text(subject: Subject, results: Sequence[Result]) -> str:
    """A table by group, then every difference, then what is different by design."""
    return "\n".join([*_subject(subject), "", *_table(results), "", *_differences(results), *_designed(results)])


def as_json(subject: Subject, results: Sequence[Result]) -> dict[str, Any]:
    """Totals, and every exchange that was not simply the same."""
    return {
        "subject": asdict(subject),
        "totals": dict(_count(results)),
        "by_design": {row.key: {"reason": row.reason, "exchanges": _uses(results)[row.key]} for row in ROWS},
        "different": [
            {
                "group": result.exchange.group,
                "name": result.exchange.name,
                "differences": [asdict(one) for one in result.different],
            }
            for result in results
            if result.different
        ],
        "unsteady": [
            {"group": one.exchange.group, "name": one.exchange.name, "places": list(one.unsteady)}
            for one in results
            if one.unsteady
        ],
    }


def _subject(subject: Subject) -> Iterator[str]:
    yield f"Ollama {subject.version or '(no version)'}, answers by {subject.model}"
    for role in ("embedding", "thinking", "tools", "vision", "hearing"):
        yield f"  {role:<10} {getattr(subject, role) or 'no such model: its exchanges are left out'}"


def _table(results: Sequence[Result]) -> Iterator[str]:
    head = ("group", "exchanges", "same", "by design", "unsteady", "different")
    rows: list[tuple[str, ...]] = [head]
    groups = dict.fromkeys(result.exchange.group for result in results)
    rows += (_row(group, [result for result in results if result.exchange.group == group]) for group in groups)
    rows.append(_row("total", results))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for number, row in enumerate(rows):
        if number in {1, len(rows) - 1}:
            yield "-" * (sum(widths) + 2 * len(widths) - 2)
        cells = (f"{text:>{width}}" for text, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join((f"{row[0]:<{widths[0]}}", *cells))


def _row(label: str, results: Sequence[Result]) -> tuple[str, ...]:
    count = _count(results)
    return (label, *(str(count[key]) for key in ("exchanges", "same", "by_design", "unsteady", "different")))


def _count(results: Sequence[Result]) -> Counter[str]:
    """Each exchange is counted once, as the first of: different, unsteady, by design, the same."""
    count = Counter({"exchanges": len(results), "same": 0, "by_design": 0, "unsteady": 0, "different": 0})
    for result in results:
        count[_kind(result)] += 1
    return count


def _kind(result: Result) -> str:
    if result.different:
        return "different"
    if result.unsteady:
        return "unsteady"
    return "by_design" if set(result.by_design) - _ADDED else "same"


def _differences(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        if result.different:
            yield f"DIFFERENT  {result.exchange.group}: {result.exchange.name}"
        for one in result.different:
            yield f"    {one.where}"
            yield f"        direct   {one.direct}"
            yield f"        through  {one.through}"
    if any(result.different for result in results):
        yield ""


def _designed(results: Sequence[Result]) -> Iterator[str]:
    uses = _uses(results)
    yield "Different by design:"
    for row in ROWS:
        yield f"  {uses[row.key]:>4} x  {row.key}: {row.reason}"


def _uses(results: Sequence[Result]) -> Counter[str]:
    return Counter(key for result in results for key in result.by_design)
