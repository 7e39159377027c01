"""The timeline of a request: parts on one scale, each with its number, and a wait that does not hide the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.records.phases import PHASES
from ollama_router_server.admin.views.request_tries import PhaseView
from ollama_router_server.console.timeline import WIDTH, timelines

TIMES = st.lists(st.floats(0.001, 1e7), min_size=1, max_size=len(PHASES))


def phases(times: dict[str, float]) -> list[PhaseView]:
    """Parts by name."""
    return [PhaseView(name=name, ms=times[name]) for name in PHASES if name in times]


@given(measured=TIMES, expected=st.none() | TIMES)
def test_parts_stay_in_the_box_and_their_labels_apart(measured: list[float], expected: list[float] | None) -> None:
    """Whatever the times: parts follow each other, each has a least width, and no label covers another."""
    told = [PhaseView(name=name, ms=ms) for name, ms in zip(PHASES, measured, strict=False)]
    said = None if expected is None else [PhaseView(name=n, ms=ms) for n, ms in zip(PHASES, expected, strict=False)]
    for row in timelines(told, said):
        assert sum(part.ms for part in row.parts) == pytest.approx(row.total_ms)
        for part, after in zip(row.parts, [*row.parts[1:], None], strict=True):
            assert part.width >= 0.02 * WIDTH - 0.01
            assert 0 <= part.x <= part.x + part.width <= WIDTH + 0.01
            assert 0 <= part.label_x <= part.label_x + 7 * len(part.label) <= WIDTH
            if after is not None:
                assert part.x + part.width <= after.x + 0.01
                assert part.label_x + 7 * len(part.label) < after.label_x


def test_a_wait_that_dwarfs_the_rest_is_broken() -> None:
    """It is drawn as long as the rest, tells its whole time, and what is not drawn stands at the mark."""
    (row,) = timelines(phases({"queue": 60_000.0, "prefill": 1_000.0, "decode": 4_000.0}), None)
    wait = row.parts[0]
    assert wait.width == pytest.approx(WIDTH / 2, abs=1)
    assert wait.label == "queue 1 min 0 s"
    assert row.gap is not None
    assert row.gap.ms == 55_000
    assert wait.x < row.gap.x < row.gap.x + row.gap.width < wait.x + wait.width


@pytest.mark.parametrize("times", [{"queue": 9_000.0, "decode": 4_000.0}, {"queue": 60_000.0}])
def test_a_wait_beside_which_the_rest_is_seen_is_whole(times: dict[str, float]) -> None:
    """A wait of twice the rest is drawn to scale, and so is one with nothing beside it."""
    (row,) = timelines(phases(times), None)
    assert row.gap is None
    assert row.parts[0].width == pytest.approx(WIDTH * times["queue"] / sum(times.values()), abs=1)


def test_both_rows_have_one_scale() -> None:
    """What was expected to take half as long is half as wide, and is broken as what came is."""
    said, came = timelines(
        phases({"queue": 20_000.0, "decode": 2_000.0}), phases({"queue": 20_000.0, "decode": 1_000.0})
    )
    assert said.parts[1].width == pytest.approx(came.parts[1].width / 2, abs=1)
    assert said.gap is not None
    assert came.gap is not None
