"""Agents as their users run them without a terminal: the settings of docs/clients, the words on the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ollama_router_server.admin.views.clients import client_views
from support.desk import Desk
from support.scripted_hosts import Dialect

__all__ = ["AIDER", "CLAUDE_CODE", "CODEX", "OPENCODE", "Program", "Ran", "Session"]


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run of a program ended, and all that it printed."""

    code: int
    output: str
    errors: str

    @property
    def words(self) -> str:
        """The standard output with each run of blanks as one."""
        return " ".join(self.output.split())


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a program is asked: `again` goes on with the last conversation."""

    text: str
    pictures: Sequence[Path] = ()
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class Program:
    """One agent.

    Attributes:
        command: the words on the command line.
        variables: its part of the environment.
        configure: writes the files that it reads.
        running: the directive that makes it run a command; empty if it calls no tools.
        reading: the directive that makes it open a picture.
        prompt_on_stdin: whether the prompt is not among the words.
    """

    name: str
    command: Callable[[Session, Prompt], list[str]]
    variables: Callable[[Session], Mapping[str, str]]
    configure: Callable[[Session], object] = lambda _: None
    running: str = ""
    reading: str = ""
    prompt_on_stdin: bool = False


@dataclass(kw_only=True)
class Session:
    """A folder, a home and a model for one program; nothing of the machine's user is read or changed."""

    program: Program
    desk: Desk
    dialect: Dialect
    installed: Path
    folder: Path
    outside: Mapping[str, str]
    token: str = field(repr=False)

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.work.mkdir()
        self.program.configure(self)

    @property
    def model(self) -> str:
        """The model, by the name that the router has for it."""
        return self.desk.model(self.dialect)

    @property
    def home(self) -> Path:
        """HOME."""
        return self.folder / "home"

    @property
    def work(self) -> Path:
        """The folder that it works in."""
        return self.folder / "work"

    @property
    def modules(self) -> Path:
        """The packages from npm."""
        return self.installed / "js" / "node_modules"

    def text(self, client: str) -> str:
        """What the console's start page and docs/clients show for the client."""
        view = next(one for one in client_views(self.desk.url, self.model) if one.name == client)
        return re.sub(r"\bTOKEN\b", self.token, view.text) if view.language == "sh" else view.text

    def exports(self, client: str) -> Mapping[str, str]:
        """The variables that a text for the shell exports."""
        return dict(re.findall(r"^export (\w+)=(.*)$", self.text(client), re.MULTILINE))

    def run(self, text: str, *, pictures: Sequence[Path] = (), again: bool = False) -> Ran:
        """Give it one prompt and wait until it ends."""
        with self.start(text, pictures=pictures, again=again) as process:
            output, errors = process.communicate(timeout=100)
        return Ran(process.returncode, output, errors)

    @contextmanager
    def start(
        self, text: str, *, pictures: Sequence[Path] = (), again: bool = False
    ) -> Iterator[subprocess.Popen[str]]:
        """Start it as a terminal does, in a process group of its own, which is gone when the block ends."""
        typed = self.folder / "typed"
        typed.write_text(text if self.program.prompt_on_stdin else "")
        with typed.open() as stdin:
            process = subprocess.Popen(
                self.program.command(self, Prompt(text, pictures, again)),
                cwd=self.work,
                env=self._environment(),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        plain = {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1"}
        return {**plain, **self.outside, **self.program.variables(self)}


# --- Codex, over Responses ------------------------------------------------------------------------


_QUIET = """
check_for_update_on_startup = false
[analytics]
enabled = false
[features]
apps = false
plugins = false
"""


def _codex_files(session: Session) -> None:
    folder = session.home / ".codex"
    folder.mkdir()
    settings, _, provider = session.text("Codex").partition("[")
    (folder / "config.toml").write_text(f"{settings}{_QUIET}[{provider}", encoding="utf-8")


def _codex(session: Session, prompt: Prompt) -> list[str]:
    options = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "-m", session.model]
    options += [word for picture in prompt.pictures for word in ("--image", str(picture))]
    begun = ["resume", "--last"] if prompt.again else []
    return [str(session.modules / ".bin" / "codex"), "exec", *begun, *options, "--", prompt.text]


CODEX = Program(
    name="codex",
    command=_codex,
    variables=lambda session: {"OROUTER_TOKEN": session.token},
    configure=_codex_files,
    running='[[call exec_command {"cmd": "%s"}]]',
    reading='[[call view_image {"path": "%s"}]]',
)

# --- Claude Code, over Messages -------------------------------------------------------------------


def _claude_code_variables(session: Session) -> Mapping[str, str]:
    quiet = ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY")
    return {**session.exports("Claude Code"), **dict.fromkeys(quiet, "1")}


def _claude_code(session: Session, prompt: Prompt) -> list[str]:
    executable = next(session.modules.glob("@anthropic-ai/claude-code-*/claude"))
    options = ["--print", "--model", session.model, *(["--continue"] if prompt.again else [])]
    return [str(executable), *options, "--allowedTools", "Bash", "Read", "--", prompt.text]


CLAUDE_CODE = Program(
    name="claude-code",
    command=_claude_code,
    variables=_claude_code_variables,
    running='[[call Bash {"command": "%s", "description": "count"}]]',
    reading='[[call Read {"file_path": "%s"}]]',
)

# --- opencode, over chat completions --------------------------------------------------------------


def _opencode_files(session: Session) -> None:
    settings = {**json.loads(session.text("opencode")), "autoupdate": False, "share": "disabled"}
    (session.work / "opencode.json").write_text(json.dumps(settings), encoding="utf-8")
    # it installs this package by itself unless its folder looks as if it had
    folder = session.home / ".config" / "opencode"
    (folder / "node_modules").mkdir(parents=True)
    locked = {"packages": {"": {"dependencies": {"@opencode-ai/plugin": "*"}}}}
    (folder / "package-lock.json").write_text(json.dumps(locked), encoding="utf-8")


def _opencode_variables(session: Session) -> Mapping[str, str]:
    names = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS")
    return {"OROUTER_TOKEN": session.token, **{f"OPENCODE_DISABLE_{name}": "1" for name in names}}


def _opencode(session: Session, prompt: Prompt) -> list[str]:
    executable = session.modules / "opencode-linux-x64-baseline" / "bin" / "opencode"
    files = [word for picture in prompt.pictures for word in ("--file", str(picture))]
    begun = ["--continue"] if prompt.again else []
    return [str(executable), "run", "--model", f"orouter/{session.model}", *begun, *files]


OPENCODE = Program(
    name="opencode",
    command=_opencode,
    variables=_opencode_variables,
    configure=_opencode_files,
    running='[[call bash {"command": "%s", "description": "count"}]]',
    reading='[[call read {"filePath": "%s"}]]',
    prompt_on_stdin=True,  # words with blanks in them would be put into quotes
)

# --- aider, over chat completions; it edits files by what the answer says, without tools ----------


def _aider_files(session: Session) -> None:
    facts = {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 32768, "supports_vision": True}
    (session.home / "facts.json").write_text(json.dumps({f"openai/{session.model}": facts}), encoding="utf-8")


def _aider_variables(session: Session) -> Mapping[str, str]:
    return {**session.exports("aider"), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def _aider(session: Session, prompt: Prompt) -> list[str]:
    options = ["--no-git", "--yes-always", "--no-check-update", "--analytics-disable", "--no-show-model-warnings"]
    options += ["--no-show-release-notes", "--no-pretty", "--no-fancy-input"]
    options += ["--model-metadata-file", str(session.home / "facts.json"), "--model", f"openai/{session.model}"]
    options += ["--restore-chat-history"] if prompt.again else []
    files = [str(picture) for picture in prompt.pictures]
    return [str(session.installed / "aider" / "bin" / "aider"), *options, *files, "--message", prompt.text]


AIDER = Program(name="aider", command=_aider, variables=_aider_variables, configure=_aider_files)
