"""Filters on the request log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from ollama_router_server.storage.schema import groups, memberships, request_log, users

__all__ = ["HAS_LEFT", "IS_COLD", "IS_ERROR", "Cursor", "Ending", "LogFilter"]

Ending = Literal["ok", "error", "refused", "client_left", "retried", "fallback", "cold"]

IS_ERROR: ColumnElement[bool] = or_(request_log.c.status >= 400, request_log.c.error.is_not(None))
"""The client got an error, or the response failed after it had started."""
HAS_LEFT: ColumnElement[bool] = request_log.c.status == 499
"""The client disconnected before its response was complete."""
IS_COLD: ColumnElement[bool] = request_log.c.load_ms > 1_000
"""The request waited for its model to load."""


class LogFilter(Struct, frozen=True, kw_only=True):
    """Conditions on rows; None leaves a field open. `since` and `before` are seconds since 1970 (UTC).

    `group` matches requests of its current members, `model` the requested and the served model. `text` is a
    case-insensitive substring of a row's id, names, path, reason or error (on SQLite for ASCII letters only).
    `slower_than` is milliseconds. `retried` requests took more than one attempt, `fallback` requests got another model,
    `cold` requests waited for their model to load.
    """

    user: str | None = None
    group: str | None = None
    model: str | None = None
    server: str | None = None
    errors: bool = False
    since: float | None = None
    before: float | None = None
    ending: Ending | None = None
    slower_than: float | None = None
    text: str | None = None

    @property
    def only_time(self) -> bool:
        """Whether only time is restricted."""
        return set(self._given()) <= {"since", "before"}

    @property
    def is_indexed(self) -> bool:
        """Whether an index finds the rows without a scan."""
        return set(self._given()) <= {"user", "since", "before"}

    @property
    def is_summed(self) -> bool:
        """Whether the totals have the number of rows per hour: of all rows, one user's or one server's."""
        named = set(self._given()) - {"since", "before"}
        return len(named) <= 1 and named <= {"user", "server"}

    @property
    def indexed(self) -> LogFilter:
        """The part of the filter that has an index."""
        return LogFilter(user=self.user, since=self.since, before=self.before)

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the filter as SQL."""
        return [_CONDITIONS[name](request_log.c, value) for name, value in self._given().items()]

    def _given(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in _CONDITIONS}
        return {name: value for name, value in fields.items() if value is not None and value is not False}


class Cursor(Struct, frozen=True):
    """The last row of a page; the next page has older rows."""

    started_at: float
    id: str

    def older(self) -> ColumnElement[bool]:
        """Return the condition of the rows after this one, as one range of the index that orders them."""
        columns = request_log.c
        behind = or_(columns.started_at < self.started_at, columns.id < self.id)
        return and_(columns.started_at <= self.started_at, behind)


def _members(group: str) -> Select[str]:
    in_it = select(users.c.name).join(memberships, memberships.c.user_id == users.c.id)
    return in_it.join(groups, groups.c.id == memberships.c.group_id).where(groups.c.name == group)


def _has(text: str) -> ColumnElement[bool]:
    columns = request_log.c
    names = (columns.user, columns.speaker, columns.model_asked, columns.model_served, columns.server)
    whole: ColumnElement[str] = columns.id
    for column in (*names, columns.path, columns.reason, columns.error_code, columns.error):
        whole = whole.concat("\n").concat(func.coalesce(column, ""))
    return whole.icontains(text, autoescape=True)


_REFUSED = and_(request_log.c.status >= 400, request_log.c.attempts == 0)
_ENDINGS: dict[Ending, ColumnElement[bool]] = {
    "ok": and_(request_log.c.status < 400, request_log.c.error.is_(None)),
    "error": and_(IS_ERROR, request_log.c.status != 499, request_log.c.attempts > 0),
    "refused": and_(_REFUSED, request_log.c.status != 499),
    "client_left": HAS_LEFT,
    "retried": request_log.c.attempts > 1,
    "fallback": request_log.c.reason.contains(" stands in for "),
    "cold": IS_COLD,
}
_CONDITIONS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "user": lambda columns, user: columns.user == user,
    "group": lambda columns, group: columns.user.in_(_members(group)),
    "model": lambda columns, model: (columns.model_asked == model) | (columns.model_served == model),
    "server": lambda columns, server: columns.server == server,
    "errors": lambda _columns, _errors: IS_ERROR,
    "since": lambda columns, since: columns.started_at >= since,
    "before": lambda columns, before: columns.started_at < before,
    "ending": lambda _columns, ending: _ENDINGS[ending],
    "slower_than": lambda columns, milliseconds: columns.total_ms > milliseconds,
    "text": lambda _columns, text: _has(text),
}
"""The SQL condition of each field of a `LogFilter`."""
