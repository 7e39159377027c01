"""Which rows of the request log a question is about."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_

from ollama_router_server.storage.schema import request_log

__all__ = ["IS_ERROR", "LogFilter"]

IS_ERROR: ColumnElement[bool] = or_(request_log.c.status >= 400, request_log.c.error.is_not(None))
"""The client got an error, or the answer failed after it had begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Conditions on rows; None leaves a field open. `since` and `before` are seconds since 1970 (UTC).

    `model` matches the model asked for and the one served.
    """

    user: str | None = None
    model: str | None = None
    server: str | None = None
    errors: bool = False
    since: float | None = None
    before: float | None = None

    @property
    def only_time(self) -> bool:
        """Whether nothing but the time is restricted."""
        return not self.errors and (self.user, self.model, self.server) == (None, None, None)

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same as SQL."""
        columns = request_log.c
        conditions: list[ColumnElement[bool]] = []
        if self.user is not None:
            conditions.append(columns.user == self.user)
        if self.model is not None:
            conditions.append((columns.model_asked == self.model) | (columns.model_served == self.model))
        if self.server is not None:
            conditions.append(columns.server == self.server)
        if self.errors:
            conditions.append(IS_ERROR)
        if self.since is not None:
            conditions.append(columns.started_at >= self.since)
        if self.before is not None:
            conditions.append(columns.started_at < self.before)
        return conditions
