"""A `cli` fixture: commands run in this process, with a home, a folder and a database of their own."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ollama_router_cli.main import app
from support.digests import cheap_digests


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as JSON; the command must have succeeded."""
        assert self.code == 0, self.err
        return json.loads(self.out)


Cli = Callable[..., Result]


class _Typed(io.StringIO):
    """What is typed at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `orouter` with these arguments; `stdin` is what is typed, at a terminal or from a pipe.

    The current folder is `tmp_path`.
    """
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("OROUTER_DATABASE_URL", f"sqlite:///{tmp_path}/router.sqlite3")
    for name in ("OROUTER_CONFIG", "OROUTER_ENV"):
        monkeypatch.setenv(name, "")
    for name in ("OLLAMA_HOST", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "OROUTER_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, stdin: str = "", terminal: bool = False) -> Result:
        monkeypatch.setattr("sys.stdin", _Typed(stdin) if terminal else io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app(list(arguments), prog_name="orouter")
        streams = capsys.readouterr()
        code = ended.value.code
        return Result(code=code if isinstance(code, int) else 0, out=streams.out, err=streams.err)

    return run


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[str], Path]:
    """Write `orouter.yml` into the current folder of `cli`."""

    def write(text: str) -> Path:
        path = tmp_path / "orouter.yml"
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="session", autouse=True)
def made_quickly() -> Iterator[None]:
    """Users are made without the cost of their digests."""
    with cheap_digests():
        yield
