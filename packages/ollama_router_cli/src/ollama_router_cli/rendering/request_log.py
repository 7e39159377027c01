"""Rows and statistics of the request log for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ollama_router_cli.rendering.output import print_estimated, print_result
from ollama_router_cli.rendering.tables import format_count, format_ms, format_time, print_table
from ollama_router_core.errors import amount
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.log_stats import HourRow, LogStats, UsageRow

__all__ = ["print_history", "print_records", "print_stats"]

_BARS = 24
_WIDTH = 48
_SHORT_WIDTH = 20
_LONGEST_LIST = 20
_HOUR = 3_600
_STEPS = (1, 2, 3, 6, 12, 24)  # hours; then whole days


def print_records(rows: Sequence[RequestRecord]) -> None:
    """Print log rows as a table."""
    print_table(
        ("time", "user", "model", "server", "status", "first byte", "total", "in", "cached", "out", "path", "error"),
        [
            (
                format_time(row.started_at),
                row.user,
                row.model_served or row.model_asked,
                row.server,
                row.status,
                format_ms(row.ttft_ms),
                format_ms(row.total_ms),
                format_count(row.prompt_tokens),
                format_count(row.cached_tokens),
                _format_written(row),
                row.path,
                row.error or row.error_code,
            )
            for row in rows
        ],
        right=("first byte", "total", "in", "cached", "out"),
    )


def _format_written(row: RequestRecord) -> str | None:
    """Format the tokens of a response; a tilde marks an estimate."""
    written = format_count(row.completion_tokens)
    return f"~{written or 0}" if row.tokens_estimated else written


def print_stats(figures: LogStats) -> None:
    """Print totals, and the same by user, model and server."""
    times = [
        (name, *(format_ms(value) for value in (figure.p50, figure.p95, figure.p99)))
        for name, figure in (("first byte", figures.ttft_ms), ("total", figures.total_ms))
    ]
    print_result(
        f"{amount(figures.requests, 'request')}, {figures.errors:,} failed, "
        f"{amount(figures.prompt_tokens, 'token')} in, {figures.completion_tokens:,} out"
    )
    parts = (
        (figures.cached_tokens, "in from a cache"),
        (figures.cache_write_tokens, "in written to a cache"),
        (figures.reasoning_tokens, "out for reasoning"),
    )
    if any(count for count, _ in parts):
        print_result("of these " + ", ".join(f"{count:,} {where}" for count, where in parts if count))
    if figures.gpu_ms:
        print_result(f"{figures.gpu_ms / 1000:,.0f} GPU seconds, {figures.wasted_ms / 1000:,.0f} for clients that left")
    print_estimated(figures.estimated)
    if figures.dropped:
        print_result(f"{amount(figures.dropped, 'more row')} dropped because the database could not store them")
    print_result()
    print_table(("time", "p50", "p95", "p99"), times, right=("p50", "p95", "p99"))
    for name, rows in (("user", figures.by_user), ("model", figures.by_model), ("server", figures.by_server)):
        if rows:
            print_result()
            _print_usage(name, rows)


def _print_usage(name: str, rows: Sequence[UsageRow]) -> None:
    columns = (name, "requests", "", "errors", "tokens in", "cached", "tokens out")
    most = max(row.requests for row in rows)
    print_table(
        columns,
        [
            (
                row.name,
                format_count(row.requests),
                "#" * -(-row.requests * _SHORT_WIDTH // most),
                *map(format_count, (row.errors, row.prompt_tokens, row.cached_tokens, row.completion_tokens)),
            )
            for row in rows[:_LONGEST_LIST]
        ],
        right=("requests", "errors", "tokens in", "cached", "tokens out"),
    )
    if len(rows) > _LONGEST_LIST:
        print_result(f"and {len(rows) - _LONGEST_LIST:,} more; --json prints all")


def print_history(hours: Sequence[HourRow]) -> None:
    """Print requests over time as at most 24 bars of whole hours each."""
    if not hours:
        return
    span = hours[-1].start + _HOUR - hours[0].start
    needed = -(-span // (_BARS * _HOUR))
    step = next((step for step in _STEPS if step >= needed), -(-needed // 24) * 24) * _HOUR
    first = hours[0].start // step * step
    bars = dict.fromkeys(range(first, hours[-1].start + 1, step), 0)
    for hour in hours:
        bars[first + (hour.start - first) // step * step] += hour.requests
    most = max(bars.values())
    rows = [
        (_label(start, step), format_count(count), "#" * -(-count * _WIDTH // most)) for start, count in bars.items()
    ]
    print_result()
    print_table(("since", "requests", ""), rows, right=("requests",))


def _label(start: int, step: int) -> str:
    moment = datetime.fromtimestamp(start, UTC).astimezone()
    return moment.strftime("%Y-%m-%d" if step >= 24 * _HOUR else "%m-%d %H:%M")
