"""Terms of the field are explained in one file, and each is used."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import ollama_router_server.console

CONSOLE = Path(ollama_router_server.console.__file__).parent
TERMS: dict[str, str] = yaml.safe_load((CONSOLE / "glossary.yml").read_text(encoding="utf-8"))


def texts() -> dict[str, str]:
    """Every template by its name."""
    return {f"{path}": path.read_text(encoding="utf-8") for path in (CONSOLE / "templates").rglob("*.html")}


def test_every_term_is_used_and_short() -> None:
    """One plain sentence; phases are named by the view."""
    used = {name for text in texts().values() for name in re.findall(r'terms\.term\("(\w+)"', text)}
    phases = {"queue", "connect", "load", "prefill", "decode", "unexplained"}
    assert used | phases == set(TERMS)
    assert all(len(sentence) <= 100 for sentence in TERMS.values())


def test_no_template_explains_a_term_by_itself() -> None:
    """A title that is written out would be a second glossary; what a view tells may stand in one."""
    found = {name: re.findall(r'<abbr title="[^{"]', text) for name, text in texts().items()}
    assert {name for name, titles in found.items() if titles} == set()
