"""Layout of the charts of a series: pure geometry, drawn by the templates as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from ollama_router_server.admin.views.series import SeriesView, StepView
from ollama_router_server.console.hour_chart import HEIGHT, columns_path

__all__ = ["SeriesChart", "chart_of"]

_MOST_ROWS: Final = 24


class SeriesChart(Struct, frozen=True):
    """Outlines of columns, each one unit wide and at most `HEIGHT` high; `rows` are the steps of the table.

    The columns of `p95_path` are behind those of `p50_path`, on the same scale.
    """

    width: int
    request_path: str
    failed_path: str
    token_path: str
    waiting_path: str
    p50_path: str
    p95_path: str
    most_per_second: float
    most_tokens_per_second: float
    most_waiting: float
    most_ttft_ms: float
    rows: list[StepView]


def chart_of(series: SeriesView) -> SeriesChart:
    """Lay out a series, the oldest step at the left."""
    steps = series.steps
    rates = [one.per_second for one in steps]
    failed = [one.per_second * one.failed / one.requests if one.requests else 0.0 for one in steps]
    tokens = [one.completion_tokens / series.step_seconds for one in steps]
    waiting = [one.waiting or 0.0 for one in steps]
    p50, p95 = [one.ttft_p50_ms or 0.0 for one in steps], [one.ttft_p95_ms or 0.0 for one in steps]
    most, longest = max(rates, default=0.0), max(p95, default=0.0)
    return SeriesChart(
        width=len(steps),
        request_path=_columns(rates, most),
        failed_path=_columns(failed, most),
        token_path=_columns(tokens, max(tokens, default=0.0)),
        waiting_path=_columns(waiting, max(waiting, default=0.0)),
        p50_path=_columns(p50, longest),
        p95_path=_columns(p95, longest),
        most_per_second=most,
        most_tokens_per_second=max(tokens, default=0.0),
        most_waiting=max(waiting, default=0.0),
        most_ttft_ms=longest,
        rows=[one for one in steps if one.requests][-_MOST_ROWS:][::-1],
    )


def _columns(values: Sequence[float], most: float) -> str:
    return columns_path([HEIGHT * value / most if most else 0.0 for value in values])
