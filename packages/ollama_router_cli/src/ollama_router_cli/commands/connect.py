"""`orouter connect`: a local proxy to a router for clients without tokens."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from ollama_router_cli.arguments.options import TokenFileOption, command_group, examples
from ollama_router_cli.rendering.output import print_note, print_result
from ollama_router_cli.sources.token import read_token
from ollama_router_server.process.listening import listen
from ollama_router_server.process.router_address import read_address
from ollama_router_server.process.shim import serve_shim

__all__ = ["app"]

app = command_group()


@app.command(
    epilog=examples(
        "orouter connect http://gpu-box:11434",
        "OROUTER_TOKEN=... orouter connect https://llm.example.org --port 11500",
        "OLLAMA_HOST=127.0.0.1:11500 ollama run llama3.1:8b",
    )
)
def connect(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the router, such as http://gpu-box:11434.")],
    *,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Port on this machine; 0 picks a free one. ollama connects to 11434."
        ),
    ] = 11434,
    token_file: TokenFileOption = None,
) -> None:
    """Connect ollama and other clients without tokens to a router.

    Listens on this machine's loopback interface, adds your token to every request and forwards it to the router. Only
    programs on this machine can connect; requests from web pages are rejected. Prints "listening on
    http://127.0.0.1:PORT" once it accepts connections. Ctrl-C ends it.
    """
    address, token = read_address(url), read_token(token_file)
    sock = listen("127.0.0.1", port)
    shown = sock.getsockname()[1]
    try:
        asyncio.run(
            serve_shim(
                address,
                token,
                sock,
                ready=lambda: print_result(f"listening on http://127.0.0.1:{shown}"),
                refused=lambda: print_note("the router rejected the token (401); it may have been replaced"),
            )
        )
    except KeyboardInterrupt:
        print_note("stopped")
    finally:
        sock.close()
