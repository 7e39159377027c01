"""The style sheet's colours: text and marks can be told from what they stand on, in both schemes."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import product

import pytest

SHEET = (files("ollama_router_server.console") / "static/app.css").read_text()
GROUNDS = ("bg", "surface", "inset")
TEXTS = ("text", "dim", "accent", "ok", "warn", "bad")
MARKS = ("edge", "queue", "load", "prefill", "decode")


def tokens(scheme: str) -> dict[str, str]:
    """The colours of a scheme by name."""
    found = re.findall(rf"color-scheme: {scheme};(.*?)}}", SHEET, re.DOTALL)
    assert len({tuple(re.findall(r"--(\w+): (#\w{6})", block)) for block in found}) == 1, (
        "the dark ones are there twice"
    )
    return dict(re.findall(r"--(\w+): (#\w{6})", found[0]))


def luminance(colour: str) -> float:
    """As WCAG 2 has it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """The ratio of two colours, the lighter one first."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_can_be_told_from_every_ground(scheme: str) -> None:
    """4.5 to 1 for text, 3 to 1 for marks and the edges of controls."""
    colours = tokens(scheme)
    for name, ground in product(TEXTS, GROUNDS):
        assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for name, ground in product(MARKS, GROUNDS):
        assert contrast(colours[name], colours[ground]) >= 3.0, (name, ground)


def test_black_on_white_is_twenty_one() -> None:
    """The measure itself."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
