"""`orouter config`: check and show the config, document its settings, compare and restore earlier versions."""

from __future__ import annotations

from ollama_router_cli.arguments.options import examples
from ollama_router_cli.commands.config.inspection import app
from ollama_router_cli.commands.config.versions import diff, history, rollback

__all__ = ["app"]

app.command(epilog=examples("orouter config history", "orouter config history --json"))(history)
app.command(epilog=examples("orouter config diff", "orouter config diff 3", "orouter config diff 3 5"))(diff)
app.command(epilog=examples("orouter config rollback 3", "orouter config rollback 3 --yes"))(rollback)
