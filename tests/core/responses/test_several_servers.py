"""What is said of an operation on several servers."""

from __future__ import annotations

from ollama_router_core.responses.several_servers import failed_on, names_of

MANY = [f"s{number}" for number in range(200)]


def test_few_are_named() -> None:
    """With the reason of each, and who has it."""
    assert failed_on("pull", {"a": "disk full", "b": "timeout"}, ["c"]) == (
        "pull failed on a: disk full; b: timeout (done on c)"
    )
    assert names_of(["a", "b"]) == "a, b"


def test_of_many_five_are_named() -> None:
    """An error is read by a person."""
    assert names_of(MANY) == "s0, s1, s2, s3, s4 and 195 more"
    text = failed_on("delete", dict.fromkeys(MANY, "timeout"), MANY)
    assert text.startswith("delete failed on s0: timeout; s1: timeout")
    assert "s4: timeout and 195 more (done on s0, s1, s2, s3, s4 and 195 more)" in text
