"""Conversion of ERB's environment variables, as in configs of the Rails application, to `${NAME}` without Ruby.

<%= ENV['X'] %>                    ${X:-}
<%= ENV["X"] || 'y' %>             ${X:-y}
<%= ENV.fetch('X') %>              ${X}
<%= ENV.fetch('X', 'y') %>         ${X:-y}
<%# a comment %>
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ollama_router_core.config.problems import Problem

__all__ = ["without_erb"]

_TEXT = r"""(?:'([^'\\]*)'|"([^"\\#]*)"|(-?[0-9]+(?:\.[0-9]+)?|true|false))"""
_INDEX = re.compile(rf"""ENV\[\s*(['"])([A-Za-z_][A-Za-z0-9_]*)\1\s*\](?:\s*(?:\|\||or)\s*{_TEXT})?""", re.ASCII)
_FETCH = re.compile(
    rf"""ENV\.fetch\(?\s*(['"])([A-Za-z_][A-Za-z0-9_]*)\1(?:\s*,\s*{_TEXT})?\s*\)?(?:\.to_[sif])?""", re.ASCII
)
_LONGEST = 500
"""Maximum characters of a converted tag."""


def without_erb(text: str) -> tuple[str, tuple[Problem, ...]]:
    """Return the text with each tag replaced, and a problem for each tag that is more than a variable.

    Tags in YAML comments produce no problems. Line numbers stay the same.
    """
    if "<%" not in text:
        return text, ()
    pieces: list[str] = []
    problems: list[Problem] = []
    end = 0
    for start, after in _tags(text):
        tag = text[start:after]
        replacement = "" if tag.startswith("<%#") else _reference(tag)
        if replacement is None and not _in_comment(text, start):
            line = text.count("\n", 0, start) + 1
            shown = " ".join(tag.split())[:60]
            advice = "write ${NAME} or ${NAME:-default} for an environment variable, or the value itself"
            problems.append(
                Problem(line=line, path="", message=f"{shown} is Ruby, which the router does not run; {advice}")
            )
        kept = tag if replacement is None else replacement + "\n" * tag.count("\n")
        pieces += (text[end:start], kept)
        end = after
    return "".join((*pieces, text[end:])), tuple(problems)


def _tags(text: str) -> Iterator[tuple[int, int]]:
    start = text.find("<%")
    while start >= 0:
        end = text.find("%>", start)
        if end < 0:
            yield start, len(text)
            return
        yield start, end + 2
        start = text.find("<%", end + 2)


def _reference(tag: str) -> str | None:
    """Return the `${NAME}` reference for a tag; None for any other code."""
    if len(tag) > _LONGEST or not tag.startswith("<%=") or not tag.endswith("%>"):
        return None
    code = tag[3:-2].removesuffix("-").strip()
    indexed, fetched = _INDEX.fullmatch(code), _FETCH.fullmatch(code)
    found = indexed or fetched
    if found is None:
        return None
    default = next((one for one in found.groups()[2:] if one is not None), None)
    if default is not None and ("}" in default or "${" in default or "\n" in default):
        return None
    if default is None:
        return f"${{{found[2]}:-}}" if indexed else f"${{{found[2]}}}"
    return f"${{{found[2]}:-{default}}}"


def _in_comment(text: str, offset: int) -> bool:
    line = text[text.rfind("\n", 0, offset) + 1 : offset]
    return line.lstrip().startswith("#") or " #" in line
