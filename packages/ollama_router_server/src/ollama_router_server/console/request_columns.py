"""The columns of the list of requests; the page's address selects them, so that links preserve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

__all__ = ["COLUMNS", "Column", "columns_shown", "switches"]


class Column(Struct, frozen=True, kw_only=True):
    """A column. `kind` has CSS classes of its cells; columns that are not `usual` are shown on request."""

    name: str
    label: str
    kind: str = ""
    usual: bool = True


class Switch(Struct, frozen=True):
    """A column, whether it is shown, and the value of `columns` that toggles only this one."""

    column: Column
    shown: bool
    columns: str


COLUMNS: Final = (
    Column(name="time", label="Time"),
    Column(name="user", label="User"),
    Column(name="model", label="Model", kind="mono"),
    Column(name="server", label="Server"),
    Column(name="outcome", label="Outcome"),
    Column(name="place", label="Place", kind="number wide-only"),
    Column(name="waited", label="Waited", kind="number spare"),
    Column(name="first", label="First token", kind="number spare"),
    Column(name="total", label="Total", kind="number"),
    Column(name="parts", label="Where it went"),
    Column(name="tokens", label="Tokens in / cached / out", kind="number"),
    Column(name="path", label="Path", kind="mono wide-only"),
    Column(name="client", label="Client", kind="mono", usual=False),
    Column(name="attempts", label="Attempts", kind="number", usual=False),
    Column(name="bytes", label="Bytes in / out", kind="number", usual=False),
    Column(name="error", label="Error", kind="words", usual=False),
    Column(name="id", label="Id", kind="mono", usual=False),
    Column(name="reason", label="Reason", kind="reason wide-only"),
)
_ALWAYS: Final = COLUMNS[0].name
"""The column with the link, always shown."""
_WHERE_ROOM: Final = (" spare", " wide-only")


def columns_shown(asked: str | None) -> tuple[Column, ...]:
    """Return the requested columns, `NAME,NAME`, in their usual order; by default the usual ones.

    Requested columns are also shown on narrow screens. Unknown names are ignored.
    """
    if not asked:
        return tuple(one for one in COLUMNS if one.usual)
    names = {_ALWAYS, *asked.split(",")}
    return tuple(_everywhere(one) for one in COLUMNS if one.name in names)


def switches(shown: Sequence[Column]) -> list[Switch]:
    """Return the switches of all columns but the first."""
    names = {one.name for one in shown}
    return [
        Switch(one, one.name in names, ",".join(other.name for other in COLUMNS if other.name in names ^ {one.name}))
        for one in COLUMNS
        if one.name != _ALWAYS
    ]


def _everywhere(column: Column) -> Column:
    kind = f" {column.kind}"
    for where in _WHERE_ROOM:
        kind = kind.removesuffix(where)
    return Column(name=column.name, label=column.label, kind=kind.strip(), usual=column.usual)
