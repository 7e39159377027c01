"""Shared by all `orouter users` commands: the user's name and the store of users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from ollama_router_cli.arguments.options import SharedOptions
from ollama_router_cli.sources.settings_source import Settings
from ollama_router_cli.sources.storage import open_users, run_with
from ollama_router_server.storage.user_store import UserStore

__all__ = ["NameArgument", "with_users"]

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.", show_default=False)]
Result = TypeVar("Result")


def with_users(shared: SharedOptions, action: Callable[[UserStore], Awaitable[Result]]) -> tuple[Settings, Result]:
    """Run an action on the users of the database that the options select."""
    return run_with(open_users, shared.config, shared.environment, action)
