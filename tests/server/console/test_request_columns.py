"""Which columns the list of requests has, and what changes one of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_server.console.request_columns import COLUMNS, columns_shown, switches

NAMES = [one.name for one in COLUMNS]


def test_a_column_that_is_asked_for_has_room_everywhere() -> None:
    """The usual ones are left out where a screen is narrow, chosen ones are not; the others of their classes stay."""
    usual = {one.name: one.kind for one in columns_shown(None)}
    chosen = {one.name: one.kind for one in columns_shown("waited,path")}
    assert (usual["waited"], usual["path"]) == ("number spare", "mono wide-only")
    assert (chosen["waited"], chosen["path"]) == ("number", "mono")


@given(st.sets(st.sampled_from(NAMES)))
def test_a_switch_changes_its_own_column_alone(asked: set[str]) -> None:
    """Pressed twice it changes nothing; the time, which has the link, is always there."""
    shown = columns_shown(",".join(asked) or "time")
    names = {one.name for one in shown}
    assert names == asked | {"time"}
    for one in switches(shown):
        after = columns_shown(one.columns)
        assert {column.name for column in after} == names ^ {one.column.name}
        (back,) = [other for other in switches(after) if other.column is one.column]
        assert {column.name for column in columns_shown(back.columns)} == names
