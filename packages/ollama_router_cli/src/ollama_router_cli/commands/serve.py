"""`orouter serve`: run the router."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Annotated, Literal

import typer

from ollama_router_cli.arguments.options import ConfigOption, EnvironmentOption, command_group, examples
from ollama_router_cli.rendering.output import print_note
from ollama_router_cli.sources.settings_source import read_settings
from ollama_router_core.config import Config
from ollama_router_server.process.reload import ConfigSource, ReadConfig
from ollama_router_server.process.serve import run

__all__ = ["app"]

app = command_group()


LogFormat = Literal["auto", "text", "json"]
"""The format of the log on standard error."""


@app.command(
    epilog=examples(
        "orouter serve",
        "orouter serve --host 0.0.0.0 --port 11434",
        "orouter serve --workers 4",
        "orouter serve --log-format json 2>> router.log",
        "orouter serve --config /etc/ollama-router/orouter.yml --environment staging",
    )
)
def serve(
    *,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on. Default: proxy_host.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Port to listen on; 0 picks a free one. Default: proxy_port."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, metavar="N", help="Worker processes. Default: workers.")
    ] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            "--log-format",
            metavar="[auto|text|json]",
            help="Format of the log on standard error. Default: logging.format.",
        ),
    ] = None,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
) -> None:
    """Run the router until Ctrl-C or SIGTERM; open streams finish first.

    Prints "listening on http://HOST:PORT" and where the web console is to standard output once it accepts connections.
    The log goes to standard error: one line of text per event on a terminal, JSON elsewhere. The first start creates an
    admin: its token is shown once on a terminal, and is in a file of mode 0600 elsewhere.
    """
    settings = read_settings(config, environment)
    print_note(f"settings: {settings.source}")
    signal.signal(signal.SIGTERM, _end)

    def read_again() -> ReadConfig:
        again = read_settings(settings.path, settings.environment, settings.variables)
        return ReadConfig(config=_with_log_format(again.config, log_format), text=again.text)

    chosen = _with_log_format(settings.config, log_format)
    source = ConfigSource(path=settings.path, text=settings.text, read=read_again)
    try:
        run(chosen, settings.variables, host=host, port=port, workers=workers, source=source)
    except KeyboardInterrupt:
        print_note("stopped")


def _with_log_format(config: Config, chosen: LogFormat | None) -> Config:
    if chosen is None:
        return config
    return config.model_copy(update={"logging": config.logging.model_copy(update={"format": chosen})})


def _end(_signal: int, _frame: FrameType | None) -> None:
    """Exit cleanly: uvicorn raises the signal again once it has stopped; cleanup must still run, exactly once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)
