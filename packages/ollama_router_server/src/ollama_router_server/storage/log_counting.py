"""Counting rows of the request log: at once, or later and many together.

The log's writer leaves the counting to whoever merges sums: tens of thousands of rows are counted together in a third
of the time, and what would be merged has never been made. Until then a row of `log_sums` holds their columns as JSON,
an array in `totals` with nothing in `users`, and whoever reads counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ollama_router_server.storage.log_figures import HOUR, Figures, Sums, add_figures, dumps, read_counted, row_of

__all__ = ["COUNTED", "Waiting", "count_all", "count_rows", "figures_of_user", "read", "rows_of", "rows_to_count"]

ServerSlot = tuple[str | None, str | None]
"""Model and server."""

COUNTED = (
    "started_at",
    "user",
    "model_asked",
    "model_served",
    "server",
    "status",
    "error",
    "prompt_tokens",
    "completion_tokens",
    "ttft_ms",
    "total_ms",
)
"""The fields of a row that count, in the order in which `count_rows` takes them."""


class _Rows(msgspec.Struct, array_like=True):
    """Rows of one hour, by columns; times are whole milliseconds, `failed` are the places of rows that are errors."""

    user: list[str | None]
    model: list[str | None]
    server: list[str | None]
    failed: list[int]
    tokens_in: list[int | None]
    tokens_out: list[int | None]
    ttft: list[int | None]
    total: list[int]


_read_rows = msgspec.json.Decoder(_Rows).decode


def rows_to_count(columns: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Rows of `log_sums` for columns of `COUNTED` fields, to be counted later.

    Raises:
        OverflowError, UnicodeError: a value that the database would not take either.
    """
    return [(start, HOUR, False, len(rows.total), dumps(rows), "") for start, rows in _by_hour(columns).items()]


def count_rows(columns: Sequence[Sequence[Any]]) -> dict[int, Sums]:
    """Sums by the hour's start over the columns of `COUNTED` fields of rows, with times in whole milliseconds."""
    return {start: _count(rows) for start, rows in _by_hour(columns).items()}


def count_all(columns: Sequence[Sequence[Any]]) -> Sums:
    """As `count_rows`, of all hours together."""
    return _count(_rows(columns)) if columns and columns[0] else Sums()


def rows_of(hours: Mapping[int, Sums], sign: int = 1) -> list[tuple[Any, ...]]:
    """Sums as rows of `log_sums`: start, span, in_day, requests, totals, users."""
    return [row_of(start, HOUR, sums, sign) for start, sums in hours.items()]


class Waiting:
    """Counts rows that wait for it, a text at a time."""

    def __init__(self) -> None:
        self._users: dict[str | None, Figures] = {}
        self._places: dict[ServerSlot, Figures] = {}
        self._total: Counter[int] = Counter()
        self._ttft: Counter[int | None] = Counter()

    def take(self, totals: str | None) -> bool:
        """Count the rows in `totals` of a row of `log_sums`; False if they are counted already."""
        if totals is None or not totals.startswith("["):
            return False
        self.add(_read_rows(totals))
        return True

    def add(self, rows: _Rows) -> None:
        """Count rows of which there is at least one."""
        users, places = self._users, self._places
        _add_tokens(users, places, rows)
        for number in rows.failed:
            users[rows.user[number]][1] += 1
            places[rows.model[number], rows.server[number]][1] += 1
        self._total.update(rows.total)
        self._ttft.update(rows.ttft)

    def counted(self) -> Sums:
        """What all of them add up to, with times in bands; to be called once."""
        return self.exactly().in_bands()

    def exactly(self) -> Sums:
        """As `counted`, with times in milliseconds."""
        del self._ttft[None]
        return _sums(self._users, self._places, self._total, self._ttft)


def read(texts: Iterable[tuple[str | None, str | None]]) -> Sums:
    """What several rows of `log_sums` add up to, by their `totals` and `users`; None leaves a part empty."""
    sums, waiting = Sums(), Waiting()
    for totals, users in texts:
        if not waiting.take(totals):
            sums.add(read_counted(totals, users))
    sums.add(waiting.counted())
    return sums


def figures_of_user(totals: str, user: str) -> Figures | None:
    """A user's figures in the `totals` of rows that wait to be counted; None if none of these rows is the user's."""
    return _count(_read_rows(totals)).user.get(user)


def _by_hour(columns: Sequence[Sequence[Any]]) -> dict[int, _Rows]:
    if not columns or not columns[0]:
        return {}
    moments = columns[0]
    hour = int(min(moments)) // HOUR * HOUR
    if max(moments) < hour + HOUR:  # nearly always
        return {hour: _rows(columns)}
    by_hour: dict[int, list[Sequence[Any]]] = defaultdict(list)
    for row in zip(*columns, strict=True):
        by_hour[int(row[0]) // HOUR * HOUR].append(row)
    return {start: _rows([list(column) for column in zip(*rows, strict=True)]) for start, rows in by_hour.items()}


def _rows(columns: Sequence[Sequence[Any]]) -> _Rows:
    """This is on the way of every row, so it goes by columns, and C does what it can."""
    _, user, asked, served, server, status, error, tokens_in, tokens_out, ttft, total = columns
    return _Rows(
        user=list(user),
        model=list(served if served == asked else map(_first_of, served, asked)),
        server=list(server),
        failed=_failed(status, error),
        tokens_in=list(tokens_in),
        tokens_out=list(tokens_out),
        ttft=[None if value is None else int(value) for value in ttft],
        total=list(map(int, total)),
    )


def _failed(status: Sequence[int], error: Sequence[str | None]) -> list[int]:
    if max(status) < 400 and error.count(None) == len(error):
        return []
    return [
        place for place, (code, text) in enumerate(zip(status, error, strict=True)) if code >= 400 or text is not None
    ]


def _first_of(first: str | None, second: str | None) -> str | None:
    return second if first is None else first


def _count(rows: _Rows) -> Sums:
    waiting = Waiting()
    waiting.add(rows)
    return waiting.exactly()


def _add_tokens(users: dict[str | None, Figures], places: dict[ServerSlot, Figures], rows: _Rows) -> None:
    find_user, find_place = users.get, places.get
    place_of = zip(rows.model, rows.server, strict=True)
    for name, place, tokens_in, tokens_out in zip(rows.user, place_of, rows.tokens_in, rows.tokens_out, strict=True):
        added_in, added_out = tokens_in or 0, tokens_out or 0
        figures = find_user(name)
        if figures is None:
            users[name] = [1, 0, added_in, added_out]
        else:
            figures[0] += 1
            figures[2] += added_in
            figures[3] += added_out
        figures = find_place(place)
        if figures is None:
            places[place] = [1, 0, added_in, added_out]
        else:
            figures[0] += 1
            figures[2] += added_in
            figures[3] += added_out


def _sums(
    users: dict[Any, Figures], places: Mapping[ServerSlot, Figures], total: Mapping[int, int], ttft: Mapping[Any, int]
) -> Sums:
    sums = Sums()
    if None in users:
        add_figures(users, {"": users.pop(None)})
    sums.user = users
    for (model, server), figures in places.items():
        add_figures(sums.model, {model or "": figures})
        add_figures(sums.server, {server or "": figures})
    sums.total.update(total)
    sums.ttft.update(ttft)
    return sums
