"""`orouter requests`: the requests of a running router."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from ollama_router_cli.arguments.options import command_group, examples, in_place_of, option
from ollama_router_cli.arguments.router_options import RouterAccess, asks_router
from ollama_router_cli.arguments.times import parse_moment
from ollama_router_cli.rendering.output import clean, print_note, print_result
from ollama_router_cli.rendering.router_answer import print_answer
from ollama_router_cli.rendering.tables import format_ms, format_time, print_table
from ollama_router_cli.sources.router import segment
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group("Show and cancel requests of a running router.")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The request's id, from X-Router-Request-Id or `list`.")]

ReplayOption = Annotated[
    bool,
    typer.Option("--replay", help="Show where each strategy would send it now; needs a viewer's or admin's token."),
]

_PARTS = ("queue", "connect", "load", "prefill", "decode", "unexplained")
_SHOW_EXAMPLES = examples(
    "orouter requests show 019ab3f2c4d1a2b3c4d5e6f70001", "orouter requests show 019ab3f2c4d1a2b3c4d5e6f70001 --replay"
)
_EXAMPLES = examples(
    "orouter requests list --ending cold --since 1d",
    "orouter requests list --slower-than 10000",
    "orouter requests list --text llama3.3",
)


Ending = Literal["ok", "error", "refused", "client_left", "retried", "fallback", "cold"]
"""Filters by the end of a request, or by an event during it."""


def _read_filter(typed: Mapping[str, Any]) -> dict[str, Any]:
    now = SystemClock().wall()
    times = {name: parse_moment(typed[name], now=now) for name in ("since", "before") if typed[name] is not None}
    return {**typed, **times}


_filtered = in_place_of(
    "chosen",
    [
        option("text", str | None, "Requests with this text in id, names, path, reason or error."),
        option("user", str | None, "Requests of this user.", metavar="NAME"),
        option("group", str | None, "Requests of users who are in this group now.", metavar="GROUP"),
        option("model", str | None, "Requests for this model.", metavar="MODEL"),
        option("server", str | None, "Requests that this server answered.", metavar="NAME"),
        option("ending", Ending | None, "Requests with this outcome."),
        option("slower_than", float | None, "Requests that took longer than this.", min=0, metavar="MS"),
        option("since", str | None, "Requests since this time: 30m, 7d or 2026-01-31T15:00.", metavar="TIME"),
        option("before", str | None, "Requests before this time.", metavar="TIME"),
        option("limit", int, "Rows to show.", default=20, min=1, max=200),
        option("cursor", str | None, "Continue after a page: the cursor that it printed."),
    ],
    _read_filter,
)


@app.command("list", epilog=_EXAMPLES)
@_filtered
@asks_router
def list_requests(*, chosen: dict[str, Any], router: RouterAccess) -> None:
    """List requests in progress and in the log, newest first; with a user's token only that user's."""
    print_answer(router, _print_requests, "/router/requests", **chosen)


def _print_requests(view: dict[str, Any]) -> None:
    columns = ("time", "user", "model", "server", "outcome", "waited", "first token", "total", "id")
    rows = [*map(_active_row, view["active"]), *map(_row, view["requests"])]
    print_table(columns, rows, right=("waited", "first token", "total"))
    back_to = view.get("searched_back_to")  # an older router searches its whole log
    if back_to is not None:
        print_note(f"searched back to {format_time(back_to)}; older rows were not searched yet")
    if view["next"]:
        about = view.get("about")  # an older router does not count
        print_note(f"more{'' if about is None else f', of about {about:,}'}: --cursor {view['next']}")


@app.command("show", epilog=_SHOW_EXAMPLES)
@asks_router
def show(request_id: IdArgument, *, again: ReplayOption = False, router: RouterAccess) -> None:
    """Show one request: what happened or its progress, where its time was spent, or where it would go now."""
    path = f"/router/requests/{segment(request_id)}{'/replay' if again else ''}"
    print_answer(router, _print_replay if again else _print_request, path)


def _print_request(view: dict[str, Any]) -> None:
    print_result(clean(view["sentence"]))
    _print_parts(view["phases"], view["expected"])
    if view.get("speaker"):
        print_result(clean(f"sent for {_asker(view)}"))
    if view["reason"]:
        print_result(clean(f"why there: {view['reason']}"))
    _print_course(view)
    if view["decision"] is not None:
        _print_decision(view["decision"])


def _print_course(view: dict[str, Any]) -> None:
    """Print the attempts (if there were several), changes by policy, and what was left of the user's limits."""
    tries = view.get("tries") or ()  # an older router does not send them
    if len(tries) > 1 or any(one["end"] not in {"answered", "client_left", "in_progress"} for one in tries):
        rows = [(one["server"], format_ms(one["start_ms"]), format_ms(one["ms"]), _end(one)) for one in tries]
        print_table(("attempt on", "began after", "took", "ended"), rows, right=("began after", "took"))
    if view.get("expected_wait_ms") is not None:
        said = view.get("said_seconds")
        text = f"{said[0]:.0f} to {said[1]:.0f} s" if said else f"about {format_ms(view['expected_wait_ms'])}"
        print_result(f"expected wait {text}, waited {format_ms(view['queue_ms']) or 'until it gave up'}")
    for name, told in (("policy", view.get("changes")), ("left out or changed", view.get("dropped"))):
        if told:
            print_result(clean(f"{name}: {'; '.join(told)}"))
    for name, one in (view.get("limits") or {}).items():
        print_result(clean(f"limit of {name}: {one['remaining']} of {one['limit']} left"))


def _end(one: dict[str, Any]) -> str:
    words = str(one["end"]).replace("_", " ")
    status = f" {one['status']}" if one["status"] is not None else ""
    return f"{words}{status}: {one['error']}" if one["error"] else f"{words}{status}"


@app.command("cancel", epilog=examples("orouter requests cancel 019ab3f2c4d1a2b3c4d5e6f70001"))
@asks_router
def cancel(request_id: IdArgument, *, router: RouterAccess) -> None:
    """Cancel a request in progress: admins any, users their own."""
    cancelled = f"/router/requests/{segment(request_id)}/cancel"
    print_answer(router, lambda _: print_result(f"{request_id} is cancelled"), cancelled, "POST")


def _print_parts(phases: list[dict[str, Any]], expected: list[dict[str, Any]] | None) -> None:
    """Print the phases, next to the expected ones if they were recorded."""
    took = {phase["name"]: phase["ms"] for phase in phases}
    if expected is None:
        print_table(("", ""), [(name, format_ms(ms)) for name, ms in took.items()], right=("",))
        return
    said = {phase["name"]: phase["ms"] for phase in expected}
    names = [name for name in _PARTS if name in took or name in said]
    rows = [(name, format_ms(said.get(name)), format_ms(took.get(name))) for name in names]
    print_table(("", "expected", "measured"), rows, right=("expected", "measured"))


def _print_replay(view: dict[str, Any]) -> None:
    """Print where the request would go now, by server and by strategy."""
    error = view["error"]
    now = f"to {view['server']}: {view['reason']}" if error is None else f"nowhere: {error['text']}"
    print_result(clean(f"now {now}; then {'to ' + view['then'] if view['then'] else 'nowhere'}"))
    print_table(("server", "now", "because"), map(_candidate, view["candidates"]))
    rows = [(name, one["server"], one["reason"]) for name, one in view["strategies"].items()]
    print_table(("strategy", "server", "reason"), rows)


def _candidate(one: dict[str, Any]) -> tuple[str, ...]:
    return one["server"], one["verdict"], ", ".join(reason["text"] for reason in one["reasons"])


def _print_decision(decision: dict[str, Any]) -> None:
    """Print the servers as they were at the time of the decision."""
    print_table(("server", "then", "because"), map(_candidate, decision["candidates"]))
    if decision["others"]:
        print_result(clean("others: " + ", ".join(f"{count} {code}" for code, count in decision["others"].items())))


def _asker(row: dict[str, Any]) -> str | None:
    """Return the user and, if known, the user whose token spoke for it."""
    speaker = row.get("speaker")  # an older router does not send it for ended requests
    return f"{row['user']} by {speaker}" if speaker else row["user"]


def _active_row(row: dict[str, Any]) -> tuple[object, ...]:
    first = row["first_byte_seconds"]
    return (
        "now",
        _asker(row),
        row["model"],
        row["server"],
        row["doing"],
        None,
        None if first is None else format_ms(first * 1000),
        format_ms(row["seconds"] * 1000),
        row["id"],
    )


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        format_time(row["started_at"]),
        _asker(row),
        row["model_served"] or row["model_asked"],
        row["server"],
        row["outcome"] if row["outcome"] == "ok" else f"{row['outcome']} {row['status']}",
        format_ms(row["queue_ms"]),
        format_ms(row["ttft_ms"]),
        format_ms(row["total_ms"]),
        row["id"],
    )
