"""`orouter serve`: run the router."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Annotated

import typer

from ollama_router_cli.arguments.options import ConfigOption, EnvironmentOption, command_group, examples
from ollama_router_cli.rendering.streams import print_note
from ollama_router_cli.sources.settings import read_settings
from ollama_router_server.process.reload import ConfigSource
from ollama_router_server.process.serve import run

__all__ = ["app"]

app = command_group()


@app.command(
    epilog=examples(
        "orouter serve",
        "orouter serve --host 0.0.0.0 --port 11434",
        "orouter serve --workers 4",
        "orouter serve --config /etc/ollama-router/orouter.yml --environment staging",
    )
)
def serve(
    *,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on; else proxy_host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0 for a free one; else proxy_port.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes that serve; else workers.")] = None,
    config: ConfigOption = None,
    environment: EnvironmentOption = None,
) -> None:
    """Run the router until Ctrl-C or SIGTERM; streams under way are finished first.

    Prints one line when it accepts connections: listening on http://HOST:PORT. When there are no users yet, an
    admin is created and the token printed, once.
    """
    settings = read_settings(config, environment)
    print_note(f"settings: {settings.source}")
    signal.signal(signal.SIGTERM, _end)
    source = ConfigSource(
        path=settings.path, read=lambda: read_settings(settings.path, settings.environment, settings.variables).config
    )
    try:
        run(settings.config, settings.variables, host=host, port=port, workers=workers, source=source)
    except KeyboardInterrupt:
        print_note("stopped")


def _end(_signal: int, _frame: FrameType | None) -> None:
    """Uvicorn raises the signal again once it has stopped: what is still to be closed after it must be."""
    raise SystemExit(0)
