"""Which header fields of a request and of its answer cross, asked of the rows that httpx and httpx2 keep."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from ollama_router_core.client.messages import Row, as_rows, plain_headers, read_fields
from ollama_router_core.outbound.header_fields import NEVER_TO_CLIENTS, TO_SERVERS, answer_fields

__all__ = ["RequestHeads", "kept_rows"]

_NOMINATES_NOTHING = frozenset({b"close", b"keep-alive"})
_LENGTH = b"content-length"
_name_of = itemgetter(1)


class RequestHeads:
    """What servers get of a program's fields, remembered of its last request.

    Programs repeat their fields and change only Content-Length, so most heads are compared and not looked into. The
    price is that the last one, credentials included, is held as long as the transport.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: tuple[Any, int, list[Row], list[Row], list[Row]] = (None, 0, [], [], [])

    def passing(self, library: Any, headers: Any) -> list[Row] | None:
        """The rows for a server, not to be changed; None where it takes more than a look at the fields' names."""
        known, at, before, after, kept = self._last
        if known is library:
            rows = headers._list  # noqa: SLF001 - `plain_headers` was asked when it became known
            if len(rows) > at and rows[:at] == before and rows[at + 1 :] == after and rows[at][1] == _LENGTH:
                return kept
        return self._look(library, headers)

    def _look(self, library: Any, headers: Any) -> list[Row] | None:
        if plain_headers(library) is None:
            return None
        rows = headers._list  # noqa: SLF001 - asked just now
        by_name = dict(zip(map(_name_of, rows), rows, strict=True))
        connection = by_name.get(b"connection")
        if len(by_name) != len(rows) or b"content-encoding" in by_name:
            return None
        if connection is not None and connection[2] not in _NOMINATES_NOTHING:
            return None
        kept = list(map(by_name.__getitem__, filter(TO_SERVERS.__contains__, by_name)))
        if _LENGTH in by_name:
            at = rows.index(by_name[_LENGTH])
            self._last = library, at, rows[:at], rows[at + 1 :], kept
        return kept


def kept_rows(library: Any, headers: Any) -> list[Row]:
    """What a program gets of a server's fields."""
    if plain_headers(library) is None:
        return as_rows(answer_fields(read_fields(library, headers)))
    rows = headers._list  # noqa: SLF001 - asked just now
    kept = [row for row in rows if row[1] not in NEVER_TO_CLIENTS]
    if len(kept) != len(rows) and any(map(_nominates, rows)):
        return as_rows(answer_fields(read_fields(library, headers)))
    return kept


def _nominates(row: Row) -> bool:
    return row[1] == b"connection" and row[2] not in _NOMINATES_NOTHING
