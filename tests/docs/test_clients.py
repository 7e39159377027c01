"""docs/clients has a page for each client that the console shows, and says of each whether it was tried."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ollama_router_server.admin.views.clients import client_views

CLIENTS = Path(__file__).parents[2] / "docs" / "clients"
PAGES = sorted(page for page in CLIENTS.glob("*.md") if page.name != "README.md")
SHOWN = re.compile(r"<!-- generated: client (.+) -->")


def test_each_text_of_the_console_has_its_page() -> None:
    """The pages and the console show the same texts, each once."""
    on_pages = [name for page in PAGES for name in SHOWN.findall(page.read_text(encoding="utf-8"))]
    assert sorted(on_pages) == sorted(view.name for view in client_views("http://ROUTER:11434"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_page_says_what_was_tried(page: Path) -> None:
    """With which version and by what, or that it was not; and what is known not to work."""
    text = page.read_text(encoding="utf-8")
    tried = text.partition("\n## Tried\n")[2].partition("\n## ")[0].strip()
    assert tried.startswith("Not tried by us") or re.search(r"`nox -s \w+`|`tests/", tried)
    assert "\n## Known limits\n" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_index_says_the_same(page: Path) -> None:
    """`yes` in the index stands for a client that was tried."""
    row = re.search(rf"^\|.*\({page.name}\).*\| (yes|no) \|$", (CLIENTS / "README.md").read_text(), re.MULTILINE)
    assert row
    assert (row[1] == "no") == ("Not tried by us" in page.read_text(encoding="utf-8"))
