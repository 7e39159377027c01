"""Rows for other programs: CSV and JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ollama_router_server.admin.csv_lines import csv_lines

__all__ = ["write_csv", "write_json_lines"]


def write_json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one object per line."""
    sys.stdout.writelines(f"{json.dumps(row)}\n" for row in rows)


def write_csv(rows: Iterable[Sequence[object]]) -> None:
    """Write CSV without cells that a spreadsheet would evaluate as formulas."""
    sys.stdout.write(csv_lines(rows))
