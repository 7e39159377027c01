"""The texts of docs/clients and of the console's start page, run as they stand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ollama_router_server.admin.views.clients import ClientView, client_views
from support.desk import Desk
from support.scripted_hosts import Dialect

RUN = {"python": [sys.executable, "-c"], "js": ["node", "--input-type=module", "-e"], "sh": ["sh", "-euc"]}
PROGRAMS = {"ollama command", "Claude Code", "aider"}
"""Shell texts that start a program, which test_programs.py does."""
VIEWS = [view for view in client_views("{base}") if view.language in RUN and view.name not in PROGRAMS]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_text_is_run(view: ClientView, desk: Desk, installed: Path, outside: Mapping[str, str]) -> None:
    """The text works when address, token and model are filled in, and nothing else."""
    model = desk.model(Dialect.OLLAMA)
    filled = {"{base}": desk.url, "TOKEN": desk.token, "MODEL": model}
    text = view.text
    for word, value in filled.items():
        text = text.replace(word, value)
    command = RUN[view.language]
    if view.name == "LiteLLM":  # as aider brings it, in aider's environment
        if not (installed / "aider").is_dir():
            pytest.skip("aider needs Python 3.11 or 3.12")
        command = [str(installed / "aider" / "bin" / "python"), "-c"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    quiet = {"LANGSMITH_TRACING": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [*command, text],
        cwd=installed / "js",
        env={"PATH": path, "HOME": str(installed), **quiet, **outside},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Hello" in desk.hosts[Dialect.OLLAMA].seen[-1].turns[-1].text


@pytest.mark.parametrize("view", [one for one in client_views("http://ROUTER") if one.language == "json"])
def test_json_is_json(view: ClientView) -> None:
    """What is pasted into a file of JSON can be read."""
    json.loads(view.text)
