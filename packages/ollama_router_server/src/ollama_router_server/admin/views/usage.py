"""Usage: totals by user, group, model, server, host and day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from msgspec import Struct
from pydantic import Field

from ollama_router_core.config.settings import Config
from ollama_router_server.admin.usage_groups import usage_by_group
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.usage_steps import UsageStep
from ollama_router_server.storage.first_tokens import FirstTokens
from ollama_router_server.storage.log_stats import HourRow, LogStats, UsageRow
from ollama_router_server.storage.log_totals import DAY, FIGURES, Usage

__all__ = [
    "BY",
    "ORDERS",
    "By",
    "MyUsageBody",
    "Order",
    "UsageBody",
    "UsageLine",
    "UsageQuery",
    "currency_of",
    "day_lines",
    "usage_lines",
    "usage_view",
]

By = Literal["user", "group", "model", "server", "host", "day"]
BY: tuple[By, ...] = get_args(By)
"""The dimensions of a list."""
Order = Literal[
    "requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens", "gpu_ms", "wasted_ms", "cost_micros"
]
ORDERS: tuple[Order, ...] = get_args(Order)
"""The sort keys of lists, in descending order."""


class _Totals(View):
    """Totals of requests.

    `gpu_ms` is compute time of servers in milliseconds, `wasted_ms` its part for clients that disconnected; `estimated`
    counts requests with estimated tokens.
    """

    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    estimated: int
    gpu_ms: int
    wasted_ms: int
    cost_micros: int


class UsageLine(_Totals):
    """Totals of one user, group, model, server, host or day; `name` is null if the log has none.

    Times to first token come from the newest 20,000 requests.
    """

    name: str | None
    ttft_p50_ms: float | None = None
    ttft_p95_ms: float | None = None


class PercentilesBody(View):
    """Percentiles 50, 95 and 99, in milliseconds."""

    p50: float | None
    p95: float | None
    p99: float | None


class UsageBody(_Totals):
    """Totals of the request log; lists are in descending order of the chosen key, days by date.

    `by_group` counts users for their current group; `by_host` lists the current external hosts, which are also in
    `by_server`. `by_day` and `steps` start with the whole first hour; parts of steps include the whole hour of
    `before`. Costs are millionths of `currency`, null if no model has a price. `left_out` counts, for each list but
    `by_day`, the lines beyond `limit`.
    """

    since: float | None
    before: float | None
    currency: str | None
    dropped: int
    ttft_ms: PercentilesBody
    total_ms: PercentilesBody
    by_user: list[UsageLine] = Field(default_factory=list)
    by_group: list[UsageLine] = Field(default_factory=list)
    by_model: list[UsageLine] = Field(default_factory=list)
    by_server: list[UsageLine] = Field(default_factory=list)
    steps: list[UsageStep] = Field(default_factory=list)
    by_host: list[UsageLine] = Field(default_factory=list)
    by_day: list[UsageLine] = Field(default_factory=list)
    left_out: dict[By, int] = Field(default_factory=dict)


class MyUsageBody(View):
    """The requesting user's own totals, by model and by day (UTC); costs as in all usage."""

    since: float
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cost_micros: int
    currency: str | None
    by_model: list[UsageLine]
    by_day: list[UsageLine]


class UsageQuery(Struct, frozen=True, kw_only=True):
    """Which usage: its time range (seconds since 1970) and user, None for all, and the sort key.

    `limit` is the most lines per list except that of days; None is no limit.
    """

    since: float | None = None
    before: float | None = None
    user: str | None = None
    order: Order = "requests"
    by: By | None = None
    limit: int | None = None


def currency_of(config: Config) -> str | None:
    """Return the currency of all prices; None where no model has a price."""
    priced = any(model.price is not None for host in config.external_hosts.values() for model in host.models.values())
    return config.currency if priced else None


def usage_lines(
    rows: Iterable[UsageRow],
    kind: By,
    soon: FirstTokens | None = None,
    order: Order = "requests",
    limit: int | None = None,
) -> list[UsageLine]:
    """Sort rows and return at most `limit` lines, with times to first token if known."""
    found = sorted(rows, key=lambda row: (-getattr(row, order), row.name or ""))[:limit]
    return [_line(row, row.name, (soon or {}).get((kind, row.name or ""))) for row in found]


def usage_view(
    stats: LogStats,
    hours: Iterable[HourRow],
    query: UsageQuery,
    *,
    config: Config,
    group_of: Mapping[str, str],
    soon: FirstTokens,
) -> UsageBody:
    """Build the view of a time range; lists that were not requested are empty."""
    only = frozenset(BY if query.by is None else (query.by,))
    rows: dict[By, Sequence[UsageRow]] = {
        "user": stats.by_user,
        "group": usage_by_group(stats.by_user, group_of) if "group" in only else (),
        "model": stats.by_model,
        "server": stats.by_server,
        "host": [row for row in stats.by_server if row.name in config.external_hosts],
    }
    lists = {kind: some for kind, some in rows.items() if kind in only}
    return UsageBody(
        since=query.since,
        before=query.before,
        currency=currency_of(config),
        **_figures(stats),
        dropped=stats.dropped,
        ttft_ms=PercentilesBody.from_object(stats.ttft_ms),
        total_ms=PercentilesBody.from_object(stats.total_ms),
        **{f"by_{kind}": usage_lines(some, kind, soon, query.order, query.limit) for kind, some in lists.items()},
        by_day=day_lines(hours, soon) if "day" in only else [],
        left_out={kind: max(0, len(some) - (query.limit or len(some))) for kind, some in lists.items()},
    )


def _line(row: Usage, name: str | None, soon: Any = None) -> UsageLine:
    times = {} if soon is None else {"ttft_p50_ms": soon.p50, "ttft_p95_ms": soon.p95}
    return UsageLine(name=name, **_figures(row), **times)


def day_lines(hours: Iterable[HourRow], soon: FirstTokens | None = None) -> list[UsageLine]:
    """Return lines by day (UTC), oldest first, with times to first token if known."""
    days: dict[int, Counter[str]] = {}
    for hour in hours:
        days.setdefault(hour.start // DAY * DAY, Counter()).update(_figures(hour))
    return [
        _line(Usage(**sums), datetime.fromtimestamp(day, UTC).strftime("%Y-%m-%d"), (soon or {}).get(("day", str(day))))
        for day, sums in sorted(days.items())
    ]


def _figures(row: Usage) -> dict[str, int]:
    return {name: getattr(row, name) for name in FIGURES}
