"""`orouter route`: the server that would get a request, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from msgspec.structs import replace

from ollama_router_cli.arguments.options import (
    KvType,
    SharedOptions,
    command_group,
    examples,
    in_place_of,
    option,
    takes_shared_options,
)
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.explanation import print_explanation
from ollama_router_cli.rendering.output import print_json
from ollama_router_cli.sources.router import router_url
from ollama_router_cli.sources.settings_source import Settings, read_settings
from ollama_router_cli.sources.sightings import look
from ollama_router_cli.sources.snapshot_file import read_snapshot
from ollama_router_cli.sources.storage import open_users
from ollama_router_core.access.grants import Grants
from ollama_router_core.routing.explanation import Question
from ollama_router_core.routing.explanation import explain as explain_question
from ollama_router_server.system import SystemClock

__all__ = ["app"]

app = command_group("Show which server would get a request, and why.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The source of the fleet's state: a running router, a file, or by default the servers."""

    url: str | None
    token: str | None
    snapshot: Path | None


_QUESTION = (
    option("context", int | None, "Context of the request (options.num_ctx).", min=1, metavar="TOKENS"),
    option("kv_type", KvType | None, "KV cache of all servers. Default: what each has."),
    option(
        "need",
        list[str] | None,
        "Capability that the model must have: tools, vision, embedding, insert. Repeatable.",
        metavar="CAPABILITY",
    ),
    option(
        "user", str | None, "User who sends the request: report whether that user may use the model.", metavar="NAME"
    ),
    option(
        "prompt_tokens",
        int,
        "Approximate length of the prompt, for expected times.",
        default=0,
        min=0,
        metavar="TOKENS",
    ),
    option(
        "held_by", str | None, "Server that answered the conversation's previous turn, for `fastest`.", metavar="SERVER"
    ),
)
_SOURCE = (
    option("url", str | None, "Query this running router, which also knows load, failures and speeds.", metavar="URL"),
    option(
        "token",
        str | None,
        "Token of a viewer or an admin, for --url.",
        metavar="TOKEN",
        envvar="OROUTER_TOKEN",
        show_default=False,
    ),
    option("live", bool, "Query the servers now (the default).", default=False),
    option("snapshot", Path | None, "Query no server; read their answers from this JSON file.", metavar="FILE"),
)


def _read_question(typed: Mapping[str, Any]) -> Question:
    """Read all of a question but its model, which is an argument of the command."""
    return Question(model="", needs=frozenset(typed["need"] or ()), **{k: typed[k] for k in typed if k != "need"})


def _read_source(typed: Mapping[str, Any]) -> _Source:
    if sum((typed["live"], typed["snapshot"] is not None, typed["url"] is not None)) > 1:
        raise typer.BadParameter("--live, --snapshot and --url cannot be combined")
    return _Source(url=typed["url"], token=typed["token"], snapshot=typed["snapshot"])


@app.command(
    epilog=examples(
        "orouter route explain llama3.1:8b",
        "orouter route explain llama3.3:70b --context 32768 --need tools",
        "orouter route explain llama3.1:8b --all-strategies --prompt-tokens 4000 --user alice",
        "orouter route explain llama3.1:8b --snapshot fleet.json --json",
        "orouter route explain llama3.1:8b --url http://router:11434",
    )
)
@in_place_of("question", _QUESTION, _read_question)
@in_place_of("source", _SOURCE, _read_source)
@takes_shared_options
def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.", show_default=False)],
    *,
    question: Question,
    all_strategies: Annotated[
        bool, typer.Option("--all-strategies", help="Show what each routing strategy would choose.")
    ] = False,
    source: _Source,
    shared: SharedOptions,
) -> None:
    """Show every server and why it would get the request or not.

    Nothing is sent to a model. Exit code 1 if no server can take the request. Requests in flight, failures and learned
    speeds are known to a running router only: see --url.
    """
    question = replace(question, model=model)
    if source.url is not None:
        answer = _ask_router(router_url(source.url), source.token, question, all_strategies=all_strategies)
    else:
        settings = read_settings(shared.config, shared.environment)
        answer = _answer(question, settings, source.snapshot, all_strategies=all_strategies)
    if shared.as_json:
        print_json(answer)
    else:
        print_explanation(answer)
    if answer["error"] is not None or answer["allowed"] is False:
        raise typer.Exit(1)


def _answer(question: Question, settings: Settings, file: Path | None, *, all_strategies: bool) -> dict[str, Any]:
    config = settings.config
    if question.held_by is not None and question.held_by not in config.servers:
        raise typer.BadParameter(
            f"--held-by: no server is named {question.held_by!r}; known: {', '.join(config.servers)}"
        )
    if question.user is not None:
        question = replace(question, grants=asyncio.run(_grants(settings, question.user)))
    if file is None:
        seen = look(config, settings.variables)
        return explain_question(question, seen.snapshot, config, now=seen.now, all_strategies=all_strategies)
    clock = SystemClock()
    now = clock.monotonic()
    fleet = read_snapshot(file, config.servers, now=now, wall=clock.wall())
    return explain_question(question, fleet, config, now=now, all_strategies=all_strategies)


async def _grants(settings: Settings, user: str) -> Grants:
    async with open_users(settings) as users:
        return await users.grants(user)


def _ask_router(url: str, token: str | None, question: Question, *, all_strategies: bool) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "model": question.model,
        "context": question.context,
        "kv_type": question.kv_type,
        "prompt_tokens": question.prompt_tokens,
        "held_by": question.held_by,
        "user": question.user,
        "need": sorted(question.needs) or None,
        "all_strategies": all_strategies,
    }
    parameters = {name: value for name, value in asked.items() if value is not None}
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(f"{url}/router/explain", params=parameters, headers=headers, timeout=30, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CommandFailed(f"cannot query {url}: {str(error) or type(error).__name__}") from None
    try:
        body = answer.json()
    except ValueError:
        body = None
    if answer.status_code != 200 or not isinstance(body, dict):
        said = body.get("error") or body.get("description") if isinstance(body, dict) else None
        raise CommandFailed(f"{url} answered {answer.status_code}: {said or 'no explanation'}")
    return body
