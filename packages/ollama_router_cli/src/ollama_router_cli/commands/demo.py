"""`orouter demo`: the router in front of two simulated servers."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated

import httpx
import typer

from ollama_router_cli.arguments.options import command_group, examples
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.explanation import print_explanation
from ollama_router_cli.rendering.output import print_note, print_result
from ollama_router_cli.rendering.request_log import print_records
from ollama_router_cli.sources.console_links import console_sessions
from ollama_router_cli.sources.settings_source import Settings
from ollama_router_cli.sources.sightings import look
from ollama_router_cli.sources.storage import open_database, open_log, open_users
from ollama_router_core.config import Config, Limits, Server, dump_config
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.routing.explanation import Question, explain
from ollama_router_core.testing import SimulatorThread
from ollama_router_server.admin.links import link_of
from ollama_router_server.storage.log_filter import LogFilter

__all__ = ["app"]

app = command_group()

_GIB = 1024**3
_LARGE, _SMALL = "llama3.3:70b", "llama3.2:3b"
_SECONDS_PER_SECOND = 0.1  # the simulated servers are ten times as fast as real ones
_LOG_SECONDS = 20.0
_LINK_SECONDS = 3_600.0
_CONTEXT = 4_096  # the context that `route explain` assumes


@app.command(epilog=examples("orouter demo", "orouter demo --once"))
def demo(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Exit after the demonstration instead of waiting for Ctrl-C.")
    ] = False,
) -> None:
    """See the router at work on two simulated servers.

    Starts simulated Ollama servers of 48 and 8 GiB that speak real HTTP, and a router in front of them; streams an
    answer from each and shows why it was chosen and what the log says. Works in a temporary directory: none of your
    files or settings are read or changed.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    with _stage() as stage:
        _show(stage)
        if not once:
            _invite(stage)
            _wait(stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """A running router over two simulated servers, with one user."""

    url: str
    settings: Settings
    router: subprocess.Popen[str]
    token: str = field(repr=False)


@contextmanager
def _stage() -> Iterator[_Stage]:
    print_note("starting two simulated Ollama servers and a router; this takes a few seconds ...")
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orouter-demo-")))
        servers = {
            "big": Server(host="127.0.0.1", port=_simulate(stack, 48), max_memory_gb=48.0, priority=2),
            "small": Server(host="127.0.0.1", port=_simulate(stack, 8), max_memory_gb=8.0, priority=1),
        }
        settings = _settings(home, Config(servers=servers, limits=Limits(shutdown_grace=2.0)))
        token = asyncio.run(_create_user(settings))
        router = stack.enter_context(_run_router(settings, home / "router.log"))
        yield _Stage(url=_listening_url(router, home / "router.log"), settings=settings, router=router, token=token)


def _simulate(stack: ExitStack, gib: int) -> int:
    """Start a simulated server with both models on disk; return its port."""
    simulator = SimulatorThread(
        models=[_LARGE, _SMALL], vram=gib * _GIB, time_scale=_SECONDS_PER_SECOND, answer_tokens=24
    )
    return stack.enter_context(simulator).port


def _settings(home: Path, config: Config) -> Settings:
    path = home / "orouter.yml"
    path.write_text(dump_config(config), encoding="utf-8")
    database = f"sqlite:///{home / 'router.sqlite3'}"
    variables = {**os.environ, "OROUTER_DATABASE_URL": database, "XDG_DATA_HOME": str(home)}
    return Settings(config=config, path=path, environment="production", variables=variables)


async def _create_user(settings: Settings) -> str:
    async with open_users(settings) as users:
        return (await users.create("demo", role="admin")).token.reveal()


@contextmanager
def _run_router(settings: Settings, log: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ollama_router_cli", "serve", "--config", str(settings.path), "--port", "0"]
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, env=settings.variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as router,
    ):
        try:
            yield router
        finally:
            router.terminate()


def _listening_url(router: subprocess.Popen[str], log: Path) -> str:
    """Return the URL from the router's first line."""
    line = router.stdout.readline() if router.stdout is not None else ""
    url = line.partition("listening on ")[2].strip()
    if not url:
        raise CommandFailed(f"the router did not start: {log.read_text(encoding='utf-8')[-2000:]}")
    return url


def _show(stage: _Stage) -> None:
    print_result(f"router  {stage.url}   one address, one token")
    for name, server in stage.settings.config.servers.items():
        limit = f"{server.max_memory_gb:g} GiB"
        print_result(f"  {name:<5} http://{server.host}:{server.port}   {limit}, priority {server.priority}")
    for model in (_LARGE, _SMALL):
        _explain(stage, model)
        _ask(stage, model)
    print_result("\n$ orouter logs list")
    print_records(_logged(stage))


def _invite(stage: _Stage) -> None:
    print_result("\nTry it:\n")
    print_result(_curl(stage))
    print_result("\nOpen the console, signed in; the link works once, within an hour:\n")
    print_result(link_of(stage.url, asyncio.run(_console_secret(stage.settings))))
    print_result("\nQuery it from another shell:\n")
    print_result(f"export OROUTER_TOKEN={stage.token}\norouter requests list --url {stage.url}\n")
    print_result("Replay the requests so far with other strategies:\n")
    settings = stage.settings
    database = shlex.quote(settings.variables["OROUTER_DATABASE_URL"])
    config = shlex.quote(str(settings.path))
    print_result(f"OROUTER_DATABASE_URL={database} orouter replay --config {config} --strategies own\n")


async def _console_secret(settings: Settings) -> str:
    async with open_database(settings) as database:
        return await console_sessions(database, settings).invite("demo", seconds=_LINK_SECONDS)


def _explain(stage: _Stage, model: str) -> None:
    print_result(f"\n$ orouter route explain {model}")
    seen = look(stage.settings.config, stage.settings.variables)
    question = Question(model=model, needs=frozenset({"completion"}))
    print_explanation(explain(question, seen.snapshot, stage.settings.config, now=seen.now))


def _ask(stage: _Stage, model: str) -> None:
    """Stream one response and print its pieces as they arrive."""
    print_result(f"\n$ curl {stage.url}/api/chat   # {model}")
    messages = [{"role": "user", "content": "Why is the sky blue?"}]
    body = {"model": model, "messages": messages, "options": {"num_ctx": _CONTEXT}}
    with httpx.stream(
        "POST",
        f"{stage.url}/api/chat",
        json=body,
        headers={"Authorization": f"Bearer {stage.token}"},
        timeout=60,
        trust_env=False,
    ) as answer:
        if answer.status_code != httpx.codes.OK:
            raise CommandFailed(f"the router answered {answer.status_code}: {answer.read().decode(errors='replace')}")
        for line in answer.iter_lines():
            sys.stdout.write(_piece(json.loads(line)))
            sys.stdout.flush()
        headers = answer.headers
    print_result(f"\n  X-Router-Server: {headers['x-router-server']}\n  X-Router-Reason: {headers['x-router-reason']}")


def _piece(chunk: Mapping[str, object]) -> str:
    message = chunk.get("message")
    return str(message.get("content", "")) if isinstance(message, dict) else ""


def _logged(stage: _Stage) -> tuple[RequestRecord, ...]:
    """Wait for the rows of both requests, which the router writes in the background; return them."""
    deadline = time.monotonic() + _LOG_SECONDS
    while True:
        rows = asyncio.run(_read_log(stage.settings))
        if len(rows) >= 2 or time.monotonic() > deadline:
            return rows
        time.sleep(0.1)


async def _read_log(settings: Settings) -> tuple[RequestRecord, ...]:
    async with open_log(settings) as log:
        return await log.list(LogFilter())


def _curl(stage: _Stage) -> str:
    return (
        f'curl {stage.url}/v1/chat/completions -H "Authorization: Bearer {stage.token}" \\\n'
        f"  -d '"
        + json.dumps({"model": _SMALL, "stream": True, "messages": [{"role": "user", "content": "Hello"}]})
        + "'"
    )


def _wait(stage: _Stage) -> None:
    print_note("the router keeps running; press Ctrl-C to stop it")
    try:
        code = stage.router.wait()
    except KeyboardInterrupt:
        return
    raise CommandFailed(f"the router exited with code {code}")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Treat SIGTERM as Ctrl-C, so that the router and the servers are stopped first."""
    raise KeyboardInterrupt
