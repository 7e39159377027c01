"""What rows of the request log add up to: the value, and the texts in which the table `log_sums` keeps it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["DAY", "HOUR", "Figures", "Sums", "add_figures", "band_of", "dumps", "key_of", "read_counted", "row_of"]

HOUR = 3_600
DAY = 86_400

_LONGEST_BAND = 10**7  # ms; nearly three hours and everything beyond

Figures = list[int]
"""Requests, errors, tokens in, tokens out."""


class _Totals(msgspec.Struct):
    """One of the two texts of a row."""

    model: dict[str, Figures]
    server: dict[str, Figures]
    total: dict[int, int]
    ttft: dict[int, int]


_read_totals = msgspec.json.Decoder(_Totals).decode
_read_users = msgspec.json.Decoder(dict[str, Figures]).decode


class Sums:
    """Sums over rows: figures by name ("" for none), and numbers of requests by time in whole milliseconds or bands."""

    __slots__ = ("model", "server", "total", "ttft", "user")

    def __init__(self) -> None:
        self.user: dict[str, Figures] = {}
        self.model: dict[str, Figures] = {}
        self.server: dict[str, Figures] = {}
        self.total: dict[int, int] = defaultdict(int)
        self.ttft: dict[int, int] = defaultdict(int)

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(figures[0] for figures in self.server.values())

    def add(self, other: Sums, sign: int = 1) -> None:
        """Add other sums, or take them out; names and bands of which nothing is left go."""
        for mine, others in ((self.user, other.user), (self.model, other.model), (self.server, other.server)):
            add_figures(mine, others, sign)
        for bands, more in ((self.total, other.total), (self.ttft, other.ttft)):
            for band, count in more.items():
                bands[band] += sign * count
                if not bands[band]:
                    del bands[band]

    def in_bands(self) -> Sums:
        """The same, with times in bands."""
        self.total, self.ttft = _in_bands(self.total), _in_bands(self.ttft)
        return self


def add_figures(mine: dict[str, Figures], others: Mapping[str, Figures], sign: int = 1) -> None:
    """Add figures by name, or take them out; a name of which nothing is left goes."""
    find = mine.get
    for name, figures in others.items():
        sums = find(name)
        if sums is None:
            mine[name] = figures[:] if sign > 0 else [-figure for figure in figures]
            continue
        requests, errors, tokens_in, tokens_out = figures
        sums[0] += sign * requests
        sums[1] += sign * errors
        sums[2] += sign * tokens_in
        sums[3] += sign * tokens_out
        if not sums[0] and not any(sums):
            del mine[name]


def band_of(milliseconds: int) -> int:
    """The least value of the band that a time falls into: a millisecond wide, from 100 ms on at most a hundredth."""
    if milliseconds < 1_000:
        return milliseconds
    if milliseconds >= _LONGEST_BAND:
        return _LONGEST_BAND
    step: int = 10 ** (len(str(milliseconds)) - 3)
    return milliseconds - milliseconds % step


def _in_bands(times: Mapping[int, int]) -> dict[int, int]:
    bands: dict[int, int] = defaultdict(int)
    for milliseconds, count in times.items():
        bands[band_of(milliseconds)] += count
    return bands


def row_of(start: int, span: int, sums: Sums, sign: int = 1, *, in_day: bool = False) -> tuple[Any, ...]:
    """Sums as a row of `log_sums`: start, span, in_day, requests, totals, users."""
    if sign < 0:
        positive, sums = sums, Sums()
        sums.add(positive, sign)
    sums.in_bands()
    totals = _Totals(sums.model, sums.server, sums.total, sums.ttft)
    return start, span, in_day, sums.requests, dumps(totals), _entries_of(sums.user)


def dumps(value: Any) -> str:
    """As JSON."""
    return msgspec.json.encode(value).decode()


def _entries_of(users: Mapping[str, Figures]) -> str:
    """Users' figures as text: a comma before each, so that SQL finds one user's by looking for `key_of` it."""
    return "," + dumps(users)[1:-1] if users else ""


def key_of(user: str) -> str:
    """What stands before the figures of a user in a row's `users`, and nowhere else in it."""
    return f",{dumps(user)}:["


def read_counted(totals: str | None, users: str | None) -> Sums:
    """Sums out of the two texts of a row of `row_of`; None leaves a part empty."""
    sums = Sums()
    if totals is not None:
        document = _read_totals(totals)
        sums.model, sums.server = document.model, document.server
        sums.total.update(document.total)
        sums.ttft.update(document.ttft)
    if users:
        sums.user = _read_users("{" + users[1:] + "}")
    return sums
