"""Links between the pages of this repository work, and every page can be reached from the index."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "README.md"
_BUILT = {".venv", ".nox", ".git", "node_modules", "build", "dist"}
_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Every Markdown file that belongs to the repository: of a checkout those that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = map(ROOT.joinpath, listed.stdout.splitlines()) if listed.returncode == 0 else ROOT.rglob("*.md")
    return sorted(page for page in found if page.exists() and not _BUILT & set(page.relative_to(ROOT).parts))


def links(page: Path) -> Iterator[str]:
    """The targets inside the repository that a page links to."""
    for target in _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8"))):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made on code hosts."""
    titles = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path) -> None:
    """The linked file exists, and so does the heading that a fragment names."""
    for target in links(page):
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not heading or heading in slugs(file), target


def test_every_page_is_linked_from_the_index() -> None:
    """Each page below docs/ is one link away from docs/README.md, decisions from an index of their own."""
    linked = {(page.parent / target.partition("#")[0]).resolve() for page in _indexes() for target in links(page)}
    assert not {page for page in (ROOT / "docs").rglob("*.md") if page not in _indexes()} - linked


def _indexes() -> list[Path]:
    return sorted((ROOT / "docs").rglob("README.md"))
