"""Output streams: results go to standard output, progress and errors to standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

from ollama_router_cli.errors import CommandFailed
from ollama_router_core.errors import amount

__all__ = ["clean", "confirm_word", "print_estimated", "print_json", "print_note", "print_outcome", "print_result"]


def clean(text: object) -> str:
    """Replace every unprintable character by `?`."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(char if char.isprintable() else "?" for char in shown)


def print_result(text: str = "") -> None:
    """Print a result to standard output."""
    sys.stdout.write(f"{text}\n")


def print_note(text: str) -> None:
    """Print progress, a hint or an error to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def print_json(value: Any) -> None:
    """Print a result as JSON, in ASCII so that it is independent of the terminal's encoding."""
    print_result(json.dumps(value, indent=2))


def print_outcome(value: Any, text: str, *, as_json: bool) -> None:
    """Print a command's result: a value as JSON, or a text for people."""
    if as_json:
        print_json(value)
    else:
        print_result(clean(text))


def print_estimated(requests: int) -> None:
    """Print the number of requests with estimated tokens, if any."""
    if requests:
        print_result(f"the tokens of {amount(requests, 'request')} are estimates: servers did not count all of them")


def confirm_word(question: str, word: str) -> None:
    """Ask the user to type a word, on standard error so that pipes receive only results.

    Raises:
        CommandFailed: the input differs, or standard input has ended.
    """
    sys.stderr.write(f"{question} Type {word} to continue: ")
    sys.stderr.flush()
    typed = sys.stdin.readline()
    if not typed.endswith("\n"):
        sys.stderr.write("\n")
    if typed.strip() != word:
        raise CommandFailed("nothing was changed")
