"""Hypothesis strategies: JSON as clients may write it, odd but valid spellings included."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import strategies as st

texts = st.text(st.characters(codec="utf-8"), max_size=20)
keys = st.sampled_from(["model", "name", "stream", "options", "a", "Ä", "", "k\u212a"]) | texts
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(keys, values, max_size=6)
spaces = st.text(" \t\n\r", max_size=3)
surviving = st.sampled_from(['"\\ud800"', "1e400", "9" * 30, "-" + "9" * 5000, "1.00", '"\\u006d"', "[1 , 2]", "-0.0"])
"""JSON texts that a round trip through Python's values would change."""


@st.composite
def spelled(draw: st.DrawFn, members: st.SearchStrategy[dict[str, object]] = objects) -> str:
    """One object as text: any spacing, escaped or raw characters, values that would not survive a round trip."""
    rows = []
    for key, value in draw(members).items():
        ascii_only = draw(st.booleans())
        text = draw(surviving) if draw(st.integers(0, 5)) == 0 else json.dumps(value, ensure_ascii=ascii_only)
        left, middle, right, end = (draw(spaces) for _ in range(4))
        rows.append(f"{left}{json.dumps(key, ensure_ascii=ascii_only)}{middle}:{right}{text}{end}")
    before, after = draw(spaces), draw(spaces)
    return f"{before}{{{','.join(rows) or draw(spaces)}}}{after}"


def cuts(max_pieces: int = 12) -> st.SearchStrategy[list[float]]:
    """Where to cut some bytes, as parts of their length."""
    return st.lists(st.floats(0, 1), max_size=max_pieces)


def cut(body: bytes, places: list[float]) -> list[bytes]:
    """The body in pieces, empty ones included; joined, they are the body."""
    edges = [0, *sorted(int(place * len(body)) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]
