"""What is kept while the store is away."""

from __future__ import annotations

from ollama_router_server.coordination.unsent import MOST_NEWS, Unsent


def test_counts_of_one_second_are_one() -> None:
    """A busy user costs one entry a second, however many requests it makes."""
    unsent = Unsent()
    for _ in range(1_000):
        unsent.add(("spend", "alice", 100, 300))
        unsent.add(("spend", "alice", 100, -250))
        unsent.add(("admit", "alice", 100, 1))
    unsent.add(("spend", "bob", 101, 7))
    assert sorted(unsent.operations()) == [
        ("admit", "alice", 100, 1_000),
        ("spend", "alice", 100, 50_000),
        ("spend", "bob", 101, 7),
    ]


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    """The store would not count it."""
    unsent = Unsent()
    for second in (39, 40, 41):
        unsent.add(("spend", "alice", second, 1))
    unsent.forget(100)
    assert [second for _, _, second, _ in unsent.operations()] == [40, 41]


def test_the_last_word_about_a_server_and_the_newest_news_are_kept() -> None:
    """In this order; what joining tells anyway is not."""
    unsent = Unsent()
    for number in range(MOST_NEWS + 1):
        unsent.add(("tell", str(number)))
    for on in (True, False):
        unsent.add(("drain", "a", on))
    unsent.add(("take", "server", "a", 1))
    drain, first, *_, last = unsent.operations()
    assert (drain, first, last) == (("drain", "a", False), ("tell", "1"), ("tell", str(MOST_NEWS)))
