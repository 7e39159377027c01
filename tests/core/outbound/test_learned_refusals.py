"""What hosts refused is remembered within bounds."""

from __future__ import annotations

from ollama_router_core.outbound.learned_refusals import LearnedRefusals


def test_what_a_host_refuses_for_a_model_is_known() -> None:
    """For that host and that model alone; requests that were under way together may learn the same."""
    learned = LearnedRefusals()
    assert learned.learn("paid", "m", "seed")
    assert learned.learn("paid", "m", "seed")
    assert (learned.members("paid", "m"), learned.members("paid", "n"), learned.members("q", "m")) == (
        ("seed",),
        (),
        (),
    )


def test_it_is_bounded() -> None:
    """Of 512 models 16 members; the model asked for longest ago is forgotten first."""
    learned = LearnedRefusals()
    assert [learned.learn("h", "m", f"a{number}") for number in range(17)] == [True] * 16 + [False]
    for number in range(512):
        learned.learn("h", f"x{number}", "seed")
        learned.members("h", "m")
    assert learned.members("h", "x0") == ()
    assert len(learned.members("h", "m")) == 16
    assert learned.members("h", "x511") == ("seed",)
