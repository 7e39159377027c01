"""What goes to which stream: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

from ollama_router_cli.errors import CommandFailed

__all__ = ["confirm_word", "print_json", "print_note", "print_result"]


def print_result(text: str = "") -> None:
    """A result, for the user or for a pipe."""
    sys.stdout.write(f"{text}\n")


def print_note(text: str) -> None:
    """Progress, hints and errors: never part of a result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def print_json(value: Any) -> None:
    """A result for programs; ASCII alone, so that no terminal's encoding can break it."""
    print_result(json.dumps(value, indent=2))


def confirm_word(question: str, word: str) -> None:
    """Ask for a word to be typed, on standard error so that a pipe gets results alone.

    Raises:
        CommandFailed: something else was typed, or nothing can be.
    """
    sys.stderr.write(f"{question} Type {word} to go on: ")
    sys.stderr.flush()
    typed = sys.stdin.readline()
    if not typed.endswith("\n"):
        sys.stderr.write("\n")
    if typed.strip() != word:
        raise CommandFailed("nothing was changed")
