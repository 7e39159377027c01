"""What requests add up to: by user, group, model, server, host and day."""

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
    "UsageAsked",
    "UsageBody",
    "UsageLine",
    "currency_of",
    "day_lines",
    "usage_lines",
    "usage_view",
]

By = Literal["user", "group", "model", "server", "host", "day"]
BY: tuple[By, ...] = get_args(By)
"""What a line may be about."""
Order = Literal[
    "requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens", "gpu_ms", "wasted_ms", "cost_micros"
]
ORDERS: tuple[Order, ...] = get_args(Order)
"""What lines may be in order of, the most first."""


class _Totals(View):
    """What requests add up to.

    `gpu_ms` are milliseconds that servers computed, `wasted_ms` those of them for clients that left; `estimated` counts
    requests whose tokens are estimates.
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
    """Totals of one user, group, model, server, host or day; the name is null where the log has none.

    First tokens are those of the newest 20,000 requests.
    """

    name: str | None
    ttft_p50_ms: float | None = None
    ttft_p95_ms: float | None = None


class PercentilesBody(View):
    """Milliseconds that 50, 95 and 99 of 100 requests stay within."""

    p50: float | None
    p95: float | None
    p99: float | None


class UsageBody(_Totals):
    """Totals of the request log, the most of what was asked for first, days by date.

    `by_group` has each user in the group of now, `by_host` the external hosts of now, which `by_server` has as well;
    `by_day` begins with the whole first hour, and so do `steps`, where they are asked for; their parts have the whole
    hour in which `before` lies. Costs are millionths of
    `currency`, null where no model has a price. `left_out` tells of each list, but `by_day`, how many lines are beyond
    `limit`.
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
    """What the asking user's own requests add up to, by model and by day (UTC); costs as in all usage."""

    since: float
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cost_micros: int
    currency: str | None
    by_model: list[UsageLine]
    by_day: list[UsageLine]


class UsageAsked(Struct, frozen=True, kw_only=True):
    """Which usage: of a time (seconds since 1970) or of all, of a user or of all, the most of what first.

    `limit` is how many lines a list has at most, but for that of days; None is no bound.
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
    """Lines in their order, `limit` at most, with how soon their first tokens came as far as that is known."""
    found = sorted(rows, key=lambda row: (-getattr(row, order), row.name or ""))[:limit]
    return [_line(row, row.name, (soon or {}).get((kind, row.name or ""))) for row in found]


def usage_view(
    stats: LogStats,
    hours: Iterable[HourRow],
    asked: UsageAsked,
    *,
    config: Config,
    group_of: Mapping[str, str],
    soon: FirstTokens,
) -> UsageBody:
    """Everything that is told of a time; lists that nobody asked for are empty."""
    only = frozenset(BY if asked.by is None else (asked.by,))
    rows: dict[By, Sequence[UsageRow]] = {
        "user": stats.by_user,
        "group": usage_by_group(stats.by_user, group_of) if "group" in only else (),
        "model": stats.by_model,
        "server": stats.by_server,
        "host": [row for row in stats.by_server if row.name in config.external_hosts],
    }
    lists = {kind: some for kind, some in rows.items() if kind in only}
    return UsageBody(
        since=asked.since,
        before=asked.before,
        currency=currency_of(config),
        **_figures(stats),
        dropped=stats.dropped,
        ttft_ms=PercentilesBody.from_object(stats.ttft_ms),
        total_ms=PercentilesBody.from_object(stats.total_ms),
        **{f"by_{kind}": usage_lines(some, kind, soon, asked.order, asked.limit) for kind, some in lists.items()},
        by_day=day_lines(hours, soon) if "day" in only else [],
        left_out={kind: max(0, len(some) - (asked.limit or len(some))) for kind, some in lists.items()},
    )


def _line(row: Usage, name: str | None, soon: Any = None) -> UsageLine:
    times = {} if soon is None else {"ttft_p50_ms": soon.p50, "ttft_p95_ms": soon.p95}
    return UsageLine(name=name, **_figures(row), **times)


def day_lines(hours: Iterable[HourRow], soon: FirstTokens | None = None) -> list[UsageLine]:
    """Lines by day (UTC), oldest first, with how soon their first tokens came as far as that is known."""
    days: dict[int, Counter[str]] = {}
    for hour in hours:
        days.setdefault(hour.start // DAY * DAY, Counter()).update(_figures(hour))
    return [
        _line(Usage(**sums), datetime.fromtimestamp(day, UTC).strftime("%Y-%m-%d"), (soon or {}).get(("day", str(day))))
        for day, sums in sorted(days.items())
    ]


def _figures(row: Usage) -> dict[str, int]:
    return {name: getattr(row, name) for name in FIGURES}
