"""The error of a failed command."""

from __future__ import annotations

from ollama_router_core.errors import RouterError

__all__ = ["CommandFailed"]


class CommandFailed(RouterError):
    """A command failed; its message goes to standard error, the exit code is 1."""

    code = "command_failed"
