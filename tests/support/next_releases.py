"""Releases to come: the migrations that ship, and behind them revisions that only tests know."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ollama_router_server.storage import upgrade

__all__ = ["add_revisions", "next_release"]

_REVISION = """\
import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("request_log", sa.Column("{what}", sa.String(8), nullable=True))
    op.create_table("all_{what}", sa.Column("name", sa.String(8), primary_key=True))


def downgrade():
    op.drop_table("all_{what}")
    op.drop_column("request_log", "{what}")
"""


def add_revisions(migrations: Path, *titles: str) -> tuple[str, ...]:
    """Put one revision for each title behind those in a folder of migrations; return their names.

    Each adds a table, and a column to the log, which is called as the first word of its title.
    """
    newest = max((migrations / "versions").glob("v[0-9]*.py")).stem.removeprefix("v")
    names = [newest]
    for number, title in enumerate(titles, int(newest.partition("_")[0]) + 1):
        names.append(f"{number:04}_{title}")
        text = _REVISION.format(name=names[-1], before=names[-2], what=title.partition("_")[0])
        (migrations / "versions" / f"v{names[-1]}.py").write_text(text)
    return tuple(names[1:])


@contextmanager
def next_release(*titles: str) -> Iterator[tuple[str, ...]]:
    """Be the release that has a revision more for each title; yields their names.

    Databases that are made meanwhile have none of what these add: `schema` does not declare it.
    """
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        migrations = Path(shutil.copytree(upgrade._MIGRATIONS, Path(folder, "migrations")))
        names = add_revisions(migrations, *titles)
        patch.setattr(upgrade, "_MIGRATIONS", migrations)
        yield names
