"""What the router says of itself: versions and licences, and every kind of data that it keeps, with its end."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.config import load_config
from ollama_router_server.admin.views.about import about_view, kept_data
from server.console.test_pages import signed_in
from support.router import running_router

pytestmark = pytest.mark.anyio

FILES = "regardless of age, the newest 10 files of 100MB per worker"


async def test_everybody_is_told_versions_and_licences(tmp_path: Path) -> None:
    """Of the router and what it is made with; no address, no name, no database's password."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client() as client,
    ):
        told = (await client.get("/router/about")).json()
    assert (told["version"], told["licence"], told["database"]) == (version("ollama-router-server"), "MIT", "sqlite")
    licences = {one["name"].lower(): one["licence"] for one in told["libraries"]}
    assert {"falcon", "jinja2", "msgspec", "pydantic", "sqlalchemy"} <= licences.keys()
    assert "MIT" in licences["sqlalchemy"]
    assert str(tmp_path) not in json.dumps(told)
    assert told["running"] is None


async def test_how_it_runs_is_told_to_who_reads(tmp_path: Path) -> None:
    """Workers, the log's rows, the database: as JSON and on the page."""
    async with (
        running_router(tmp_path, {"gone": {"host": "127.0.0.1", "port": 9}}) as router,
        router.client(router.admin_token) as admin,
    ):
        told = (await admin.get("/router/about")).json()["running"]
        browser = await signed_in(router, router.admin_token)
        page = (await browser.get("/console/about")).text
        await browser.aclose()
    assert (told["workers"], told["workers_heard"], told["log_dropped"], told["database_answers"]) == (1, 1, 0, True)
    assert "1 of 1 heard" in page


@pytest.mark.parametrize(
    ("settings", "part", "until"),
    [
        ({}, "a row for each request", "for 90 days, at most the newest 5,000,000"),
        ({"request_log": {"keep_days": 7, "max_rows": None}}, "a row for each request", "for 7 days"),
        ({"request_log": {"keep_days": None}}, "changes with their authors", "indefinitely"),
        ({}, "digests of console sessions", "for at most 7 days"),
        ({"console": {"session_max_age": 7200}}, "digests of console sessions", "for at most 2 hours"),
        ({"console": {"enabled": False}}, "digests of console sessions", None),
        ({}, "request rows, also in files", None),
        ({"request_log": {"directory": "rows", "keep_days": 7}}, "request rows, also in files", FILES),
        ({}, "the router's own log", None),
        ({"logging": {"directory": "logs"}}, "the router's own log", FILES),
        ({}, "config versions", "the newest 50"),
        ({"console": {"enabled": False}}, "digests of sign-in links", None),
        ({}, "prompts and answers", None),
        ({"responses": {"store": True}}, "prompts and answers", "for 7 days, or until the user deletes them"),
    ],
)
def test_what_is_kept_follows_the_config(settings: dict[str, Any], part: str, until: str | None) -> None:
    """Each with its time, and what is not kept is not named."""
    found = [one.until for one in kept_data(config_of(settings)) if one.what.startswith(part)]
    assert found == ([] if until is None else [until])


@pytest.mark.parametrize("store", [True, False])
def test_prompts_are_never_stored_unless_the_config_says_so(store: bool) -> None:
    """The page does not promise what the config does not keep."""
    config = config_of({"responses": {"store": store}})
    view = about_view(config, version="1", python="3.11", database="sqlite", libraries=())
    assert ("prompts and answers" in view.never) is not store


def config_of(settings: dict[str, Any]) -> Any:
    """A config with these settings."""
    return load_config(json.dumps({"servers": {"one": {"host": "gpu"}}, **settings}))
