"""`orouter init`: a first config."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ollama_router_cli.arguments.options import JsonOption, command_group, examples, in_place_of
from ollama_router_cli.commands.split_gpus import (
    OPTIONS,
    GpuSplit,
    print_split,
    read_split,
    split_config,
    write_file,
    write_split,
)
from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.rendering.output import print_json, print_note, print_result
from ollama_router_cli.sources.settings_source import FILE_NAME
from ollama_router_cli.sources.sightings import look
from ollama_router_core.config import Config, ProbedServer, Server, parse_ollama_host, render_starter
from ollama_router_core.errors import ConfigError, amount
from ollama_router_core.fleet.snapshot import ServerFacts

__all__ = ["app"]

app = command_group()


@app.command(
    epilog=examples(
        "orouter init",
        "orouter init --probe http://gpu1:11434 http://gpu2:11434",
        "orouter init --config /etc/ollama-router/orouter.yml --probe gpu1 --force",
        "orouter init --split-gpus",
        "orouter init --split-gpus --gpus '0 1 2,3' --write",
    )
)
@in_place_of("split", OPTIONS, read_split)
def init(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="[URL]...", help="More servers to probe.", show_default=False)
    ] = None,
    *,
    probe: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Ask this server for its version and models, and list it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="File to write. Default: $OROUTER_CONFIG, else ./orouter.yml."
        ),
    ] = None,
    split: GpuSplit | None,
    as_json: JsonOption = False,
) -> None:
    """Write a short config file.

    The file has the probed servers, or one Ollama on this machine, and the settings to know first;
    `orouter config reference` prints the rest. A server that does not answer is listed as well: the
    router starts without it.

    With --split-gpus it prints systemd units that run one Ollama for each GPU, the config that goes with them, and how
    to undo it; nothing is written without --write.
    """
    path = config or Path(os.environ.get("OROUTER_CONFIG") or FILE_NAME)
    if split is not None and not split.write:
        print_split(split, path)
        return
    if path.exists() and not force:
        raise CommandFailed(f"{path} exists already; --force overwrites it")
    if split is not None:
        write_split(split)
        write_file(path, split_config(split))
        print_result(f"wrote {path}; next: orouter config check, then orouter serve")
        return
    _write_probed(path, _ask([*(probe or ()), *(urls or ())]), as_json=as_json)


def _write_probed(path: Path, probed: Sequence[ProbedServer], *, as_json: bool) -> None:
    """Write a config with these servers, and print what each answered."""
    for server in probed:
        print_note(_found(server))
    write_file(path, render_starter(probed))
    if as_json:
        servers = [{"host": each.host, "port": each.port, "error": each.error} for each in probed]
        print_json({"path": str(path), "servers": servers})
    else:
        print_result(f"wrote {path}; next: orouter config check, then orouter serve")


def _ask(urls: Sequence[str]) -> list[ProbedServer]:
    servers = {f"{server.host}:{server.port}": server for server in map(_address, urls)}
    if not servers:
        return []
    facts = look(Config(servers=servers), {}).snapshot.servers
    return [_probed(server, facts[name]) for name, server in servers.items()]


def _address(url: str) -> Server:
    try:
        return parse_ollama_host(url)
    except ConfigError:
        # Do not repeat the text: it may contain a password.
        raise typer.BadParameter("--probe: expected [http://|https://]HOST[:PORT], without user and path") from None


def _probed(server: Server, facts: ServerFacts) -> ProbedServer:
    return ProbedServer(
        name=server.host,
        host=server.host,
        port=server.port,
        protocol=server.protocol,
        version=facts.version,
        models=tuple(sorted(model.spelling for model in (facts.installed or {}).values())),
        error=None if facts.up else facts.error or "no answer",
    )


def _found(server: ProbedServer) -> str:
    where = f"{server.host}:{server.port}"
    if server.error is not None:
        return f"{where}: {server.error}; listed anyway"
    return f"{where} answered: Ollama {server.version}, {amount(len(server.models), 'model')}"
