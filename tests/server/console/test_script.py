"""The console's own script stays small enough to be read whole."""

from __future__ import annotations

from pathlib import Path

import ollama_router_server.console

MOST_LINES = 1_200


def test_the_script_is_small() -> None:
    """All modules together; what HTML, CSS or the server can do is not in them."""
    folder = Path(ollama_router_server.console.__file__).parent / "static/js"
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.glob("*.js"))
    assert 0 < lines <= MOST_LINES
