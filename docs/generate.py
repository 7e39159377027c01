"""Write the generated parts of these pages anew: `python docs/generate.py`, or `--check` that they are current.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`; everything else on a page is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import typer.main

from ollama_router_cli.main import COMMANDS, app
from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config import render_reference
from ollama_router_core.config.profile_lines import ProfileLine, ProfileName, parse_profile
from ollama_router_core.fleet.gpus import GPUS
from ollama_router_core.outbound.profile_texts import models_in_words, words_of
from ollama_router_server.admin.views.clients import client_views
from ollama_router_server.admin.views.error_reference import ErrorSectionView, errors_view

DOCS = Path(__file__).parent
EVERYWHERE = {"--config", "--environment", "--json", "--help"}
"""Options that every command has; they are documented once."""

_PART = re.compile(r"(<!-- generated: ([^\n]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write or check every page; with `--check` the exit code is 1 when one is stale."""
    stale = [page for page in sorted(DOCS.rglob("*.md")) if render(page) != page.read_text(encoding="utf-8")]
    for page in stale:
        print(f"{page.relative_to(DOCS)}: run python docs/generate.py" if "--check" in sys.argv else f"wrote {page}")
        if "--check" not in sys.argv:
            page.write_text(render(page), encoding="utf-8")
    return 1 if stale and "--check" in sys.argv else 0


def render(page: Path) -> str:
    """Return the page with its generated parts as they should be."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}\n{_written(found[2])}\n{found[3]}"

    return _PART.sub(part, page.read_text(encoding="utf-8"))


def _written(name: str) -> str:
    if name.startswith("options of orouter"):
        return options_table(name.removeprefix("options of orouter").split())
    if name.startswith("client "):
        return client_text(name.removeprefix("client "))
    return _PARTS[name]()


def options_table(path: list[str]) -> str:
    """A command's options as its help lists them, without those that every command has."""
    root: Any = typer.main.get_command(app)
    command: Any = root
    for word in path:
        command = command.get_command(None, word) if command is root else command.commands[word]
    context = command.context_class(command, info_name=path[-1])
    rows = [
        parameter.get_help_record(context)
        for parameter in command.params
        if parameter.param_type_name == "option" and not EVERYWHERE & set(parameter.opts)
    ]
    body = [f"| `{_cell(names)}` | {_cell(text)} |" for names, text in rows]
    return "\n".join(["| option | meaning |", "|---|---|", *body]) + "\n"


def client_text(name: str) -> str:
    """What to paste into that client, and where."""
    view = next(view for view in client_views("http://ROUTER:11434") if view.name == name)
    return f"For {view.where}:\n\n```{view.language}\n{view.text}\n```\n"


def _cell(text: str) -> str:
    """One line, in which a bar does not end the cell."""
    return " ".join(text.split()).replace("|", "\\|")


def decisions_index() -> str:
    """A list of the decisions by number."""
    return "".join(f"- [{title}]({page.name})\n" for page, title in _decisions())


def _decisions() -> Iterator[tuple[Path, str]]:
    for page in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        yield page, page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def commands_index() -> str:
    """Each command with its purpose."""
    return "| command | purpose |\n|---|---|\n" + "".join(
        f"| `orouter {name}` | {text} |\n" for name, text in COMMANDS.items()
    )


def gpus_table() -> str:
    """Return the GPUs that a simulation may add, each with the page that tells its figures."""
    rows = [
        f"| `{gpu.name}` | {gpu.memory_gib:g} | {gpu.bandwidth:,.0f} | {gpu.tflops:.1f} | [{gpu.year}]({gpu.source}) |"
        for gpu in GPUS.values()
    ]
    return "\n".join(["| GPU | GiB | GB/s | TFLOP/s | source |", "|---|---|---|---|---|", *rows, ""])


def error_codes() -> str:
    """Every error code by section, as the console's page has them."""
    return "\n".join(_section(one) for one in errors_view().sections)


def _section(section: ErrorSectionView) -> str:
    rows = [
        f"| `{one.code}` | {'-' if one.status is None else one.status} | {_cell(one.happened)} | {_cell(one.advice)} |"
        for one in section.errors
    ]
    head = ["| Code | Status | What happened | What to do |", "|---|---|---|---|"]
    return "\n".join([f"## {section.title}", "", *head, *rows, ""])


def host_profiles() -> str:
    """Each shipped profile: when it is guessed, and its lines with their pages."""
    return "\n".join(_profile(name) for name in get_args(ProfileName) if name != "none")


def _profile(name: ProfileName) -> str:
    source = shipped_profiles()
    profile = parse_profile(name, source.texts[name])
    addresses = [f"`{address}`" for address in source.addresses().get(name, ())]
    guessed = f"Guessed for {', '.join(addresses)}." if addresses else "Never guessed: name it."
    more = f" All lines of `{profile.extends}`, and:" if profile.extends and profile.lines else ""
    more = f" All lines of `{profile.extends}`." if profile.extends and not profile.lines else more
    rows = [
        f"| `{each}` | {_code(models_in_words(line))} | {_code(words_of(line))} | {_page(line)} |"
        for each, line in profile.lines.items()
    ]
    table = ["| line | models | what | read |", "|---|---|---|---|", *rows] if rows else []
    return "\n".join([f"## {name}", "", f"{profile.title}. {guessed}{more}", "", *table, ""])


def _page(line: ProfileLine) -> str:
    return f"[{line.read or 'page'}]({line.source})"


def _code(text: str) -> str:
    """Text in which nothing is Markdown."""
    return _cell(text).replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


_PARTS: dict[str, Callable[[], str]] = {
    "gpus": gpus_table,
    "settings": render_reference,
    "decisions": decisions_index,
    "errors": error_codes,
    "commands": commands_index,
    "host profiles": host_profiles,
}

if __name__ == "__main__":
    raise SystemExit(main())
