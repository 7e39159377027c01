"""Heads of answers that were parsed, and recognising the next one that says the same.

A server repeats the head of its answers on a connection; only the length of the body and the date change. Such a head
was parsed and judged before, and so an answer that arrives whole needs no parser.
"""

from __future__ import annotations

import re
from typing import Final

from ollama_router_server.upstream.interface import Headers

__all__ = ["KnownAnswer", "known_answer"]

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})\r\n", re.IGNORECASE)
_DATE: Final = re.compile(rb"\r\ndate:[ \t]*([A-Za-z0-9,: ]{29})\r\n", re.IGNORECASE)
_DATE_CHARACTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789,: "
_MOST_DIGITS: Final = 15
_DATE_SIZE: Final = 29
_LONGEST: Final = 4 * 1024
_WITHOUT_BODY: Final = frozenset({204, 304})
_DEMANDING: Final = frozenset({b"connection", b"keep-alive", b"trailer", b"transfer-encoding", b"upgrade"})


class KnownAnswer:
    """The bytes of an answer's head around what changes. It belongs to one connection.

    `status` is the answer's; `fields` are those of the last answer recognised, `length` is its body's in bytes. `note`
    is for whoever passes answers on: what it made of the fields other than Content-Length and Date.
    """

    __slots__ = (
        "_after",
        "_before",
        "_between",
        "_date",
        "_digits",
        "_head",
        "_length_first",
        "fields",
        "length",
        "note",
        "status",
    )

    def __init__(
        self, head: bytes, status: int, fields: Headers, length: tuple[int, int], date: tuple[int, int]
    ) -> None:
        self.status = status
        self.fields = fields
        self.note: bytes | None = None
        self._head = head
        self._digits = head[length[0] : length[1]]
        self._date = head[date[0] : date[1]]
        self.length = int(self._digits)
        self._length_first = length < date
        first, second = sorted((length, date))
        self._before = head[: first[0]]
        self._between = head[first[1] : second[0]]
        self._after = head[second[1] :]

    def body_of(self, data: bytes) -> bytes | None:
        """The body of an answer whose head is this one and whose body ends with `data`; else None.

        None as well for an empty body.
        """
        if data.startswith(self._head) and len(data) == len(self._head) + self.length > len(self._head):
            return data[len(self._head) :]
        first = len(self._before)
        stop = data.find(b"\r", first, first + _DATE_SIZE + 1)
        second = stop + len(self._between)
        end = data.find(b"\r", second, second + _DATE_SIZE + 1)
        if stop < 0 or end < 0 or not data.startswith(self._before) or not data.startswith(self._between, stop):
            return None
        if not data.startswith(self._after, end):
            return None
        begin = end + len(self._after)
        one, other = data[first:stop], data[second:end]
        digits, date = (one, other) if self._length_first else (other, one)
        if digits != self._digits or date != self._date:
            if not (digits == self._digits or _is_length(digits)) or not (date == self._date or _is_date(date)):
                return None
            self._renew(data[:begin], digits, date)
        return data[begin:] if 0 < self.length == len(data) - begin else None

    def _renew(self, head: bytes, digits: bytes, date: bytes) -> None:
        self._head, self._digits, self._date, self.length = head, digits, date, int(digits)
        changed = {b"content-length": digits, b"date": date}
        self.fields = tuple([(name, changed.get(name, value)) for name, value in self.fields])


def _is_length(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) <= _MOST_DIGITS


def _is_date(text: bytes) -> bool:
    return len(text) == _DATE_SIZE and not text.translate(None, _DATE_CHARACTERS)


def known_answer(data: bytes, status: int, fields: Headers) -> KnownAnswer | None:
    """What recognises the head that an answer begins with, if it was parsed as these.

    None for one that is long, has no Content-Length, says anything about the connection, or follows another.
    """
    end = data.find(b"\r\n\r\n", 0, _LONGEST)
    names = [name for name, _ in fields]
    if end < 0 or status in _WITHOUT_BODY or not _DEMANDING.isdisjoint(names):
        return None
    head = data[: end + 4]
    length, date = _LENGTH.search(head), _DATE.search(head)
    if length is None or names.count(b"content-length") != 1 or names.count(b"date") != (date is not None):
        return None
    if not head.startswith(b"HTTP/1.1 %d" % status):
        return None
    nowhere = (end, end)  # a date of no characters, where one could be
    return KnownAnswer(head, status, fields, length.span(1), nowhere if date is None else date.span(1))
