"""What a member knows of others between exchanges, and its share while they cannot be asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.access.grants import Grants
from ollama_router_core.coordination.interface import Admissions, Scope, Spent
from ollama_router_core.coordination.replica import Replica, Seen
from ollama_router_core.coordination.shared_limits import share_of, shared_grants


def seen(**changes: object) -> Seen:
    """A group of three, in which nothing happens but for `changes`."""
    nothing: dict[str, object] = {"members": 3, "rank": 0, "elsewhere": {}, "waiting": {}, "drains": {}}
    return Seen(**{**nothing, **changes})  # type: ignore[arg-type]


def replica(**changes: object) -> Replica:
    """One that has seen that."""
    found = Replica("me")
    found.away = False
    found.saw(seen(**changes))
    return found


@given(limit=st.integers(1, 10_000), members=st.integers(1, 100))
def test_shares_add_up_to_the_limit_where_there_is_one_for_each(limit: int, members: int) -> None:
    """Never more, unless somebody would have nothing."""
    shares = [share_of(limit, members, rank) for rank in range(members)]
    assert min(shares) >= 1
    assert sum(shares) == max(limit, members)


LEASES_END = 20.0


def goes_away(one: Replica) -> None:
    """The store cannot be asked any more."""
    one.go_alone(leases_end=LEASES_END)
    one.away = True


def taken_alone(one: Replica, limit: int) -> int:
    """How many more a member takes by itself."""
    taken = 0
    while one.may_take_alone(Scope.SERVER, "a", limit):
        one.take(Scope.SERVER, "a")
        taken += 1
    return taken


@given(limit=st.integers(1, 12), held=st.lists(st.integers(0, 6), min_size=1, max_size=5), data=st.data())
def test_alone_no_member_passes_a_limit_with_what_the_others_still_hold(
    limit: int, held: list[int], data: st.DataObject
) -> None:
    """Whatever each held, and whoever gives back what before the leases of then have ended."""
    held = [max(0, min(own, limit - sum(held[:number]))) for number, own in enumerate(held)]
    members = []
    for rank, own in enumerate(held):
        elsewhere = {Scope.SERVER: {"a": sum(held) - own}}
        one = replica(members=len(held), rank=rank, elsewhere=elsewhere)
        for _ in range(own):
            one.take(Scope.SERVER, "a")
        goes_away(one)
        members.append(one)
    for one in data.draw(st.permutations(members)):
        for _ in range(data.draw(st.integers(0, 3))):
            one.give_back(Scope.SERVER, "a")
        taken_alone(one, limit)
        assert sum(each.own[Scope.SERVER]["a"] for each in members) <= limit


def test_what_the_others_held_counts_until_their_leases_end() -> None:
    """Of four slots of which another has three the second of two members takes none; its share of two after that."""
    one = replica(members=2, rank=1, elsewhere={Scope.SERVER: {"a": 3}})
    goes_away(one)
    assert taken_alone(one, 4) == 0
    one.passed(LEASES_END - 0.1)
    assert taken_alone(one, 4) == 0
    one.passed(LEASES_END)
    assert taken_alone(one, 4) == 2


def test_a_store_that_settles_is_not_believed_by_those_who_knew_the_others() -> None:
    """They go by their share; one that never knew the others waits until it is settled."""
    old, new = replica(elsewhere={Scope.SERVER: {"a": 2}}), Replica("new")
    new.away = False
    for one in (old, new):
        one.settling = True
        one.saw(seen(members=1))
    assert (old.alone, old.members, new.alone) == (True, 3, False)
    old.settling = False
    old.saw(seen(members=2))
    assert (old.alone, old.members) == (False, 2)


def test_nothing_is_not_shared() -> None:
    """A limit of 0 forbids; it has no part of at least one."""
    assert share_of(0, 3, 0) == 0


def test_grants_are_shared_where_they_count_requests() -> None:
    """Tokens are counted in the database, in common."""
    grants = Grants(requests_per_minute=60, concurrent_requests=1, tokens_per_day=1000)
    assert shared_grants(grants, 3, 2) == Grants(requests_per_minute=20, concurrent_requests=1, tokens_per_day=1000)
    assert shared_grants(Grants(), 3, 2) == Grants()


def test_what_the_others_hold_is_as_last_seen() -> None:
    """Until the next exchange, or an answer to a question about it."""
    one = replica(elsewhere={Scope.SERVER: {"a": 2}})
    assert one.all_elsewhere(Scope.SERVER, ["a", "b"]) == {"a": 2}
    one.answered(Scope.SERVER, "a", elsewhere=3)
    assert one.elsewhere(Scope.SERVER, "a") == 3
    one.saw(seen())
    assert one.elsewhere(Scope.SERVER, "a") == 0


def test_a_limit_that_is_reached_shows_no_room() -> None:
    """Whatever was refused is taken for full, also where the store could not say who holds it."""
    one = replica()
    one.take(Scope.SERVER, "a")
    one.answered(Scope.SERVER, "a", elsewhere=0, full=4)
    assert one.elsewhere(Scope.SERVER, "a") == 3


def test_while_away_the_others_hold_the_rest_of_each_limit() -> None:
    """Of a limit that was asked for; of others nothing is known."""
    one = replica(elsewhere={Scope.SERVER: {"a": 6, "b": 6}})
    one.asked(Scope.SERVER, "a", 6)
    goes_away(one)
    one.passed(LEASES_END)
    assert one.all_elsewhere(Scope.SERVER, ["a", "b"]) == {"a": 4}
    assert one.may_take_alone(Scope.SERVER, "a", 6)
    one.take(Scope.SERVER, "a")
    one.take(Scope.SERVER, "a")
    assert not one.may_take_alone(Scope.SERVER, "a", 6)


@pytest.mark.parametrize(
    ("waiting", "longest"),
    [({}, False), ({"me": 5.0}, True), ({"me": 5.0, "other": 4.0}, False), ({"me": 5.0, "other": 5.0}, True)],
)
def test_the_longest_wait_is_judged_by_the_moments_that_all_see(waiting: dict[str, float], longest: bool) -> None:
    """What this member only says is not in the line yet; of equals, the first by name."""
    one = replica(waiting=waiting)
    one.since = 1.0
    assert one.waits_longest() is longest


def test_nobody_has_waited_longest_without_waiting() -> None:
    """Also alone, where whoever waits has."""
    one = replica(waiting={"me": 5.0})
    assert not one.waits_longest()
    one.away = True
    assert not one.waits_longest()
    one.since = 9.0
    assert one.waits_longest()


def test_who_asks_for_a_slot_is_in_the_line_until_it_is_answered() -> None:
    """Its request waits here no more, and has no slot yet: a refusal would find others before it."""
    one = replica()
    assert (one.waits(1.0), one.waits(1.0), one.since) == (True, False, 1.0)
    one.claiming += 1
    assert (one.waits(None), one.since) == (False, 1.0)
    assert (one.waits(2.0), one.since) == (True, 2.0)
    one.claiming -= 1
    assert (one.waits(None), one.since) == (True, None)


def test_somebody_waits_here_or_elsewhere() -> None:
    """As of the last exchange for the others, at once for this member."""
    assert not replica().somebody_waits
    assert replica(waiting={"other": 5.0}).somebody_waits
    one = replica()
    one.since = 1.0
    assert one.somebody_waits


def test_the_others_requests_of_a_minute_are_all_without_this_member_s() -> None:
    """By seconds of the store's clock, told in this member's."""
    one = replica()
    one.admitted("alice", 1000)
    one.admissions_of_all("alice", {930: 5, 1000: 3, 1001: 2})
    assert one.admissions("alice", 101.5, offset=900.0) == [Admissions(101.0, 2), Admissions(101.5, 2)]
    assert one.own_admitted("alice", 1000) == 1
    assert one.own_admitted("alice", 1061) == 0


def test_alone_a_member_spends_its_share_of_a_minute_s_tokens() -> None:
    """By what it has spent itself; with the others, what all have."""
    one = replica(members=2)
    one.spend("alice", 1000, 30)
    one.spent_by_all("alice", {930: 5, 1000: 80})
    assert one.spent("alice", 101.5, offset=900.0) == [Spent(101.0, 80)]
    goes_away(one)
    one.away = True
    assert one.spent("alice", 101.5, offset=900.0) == [Spent(101.0, 30)]
    assert one.may_spend_alone("alice", 1000, 20, 100)
    assert not one.may_spend_alone("alice", 1000, 21, 100)
    assert one.may_spend_alone("alice", 1061, 500, 100)


def test_giving_back_what_was_not_taken_changes_nothing() -> None:
    """And says so."""
    one = replica()
    assert not one.give_back(Scope.USER, "alice")
    one.take(Scope.USER, "alice")
    assert one.give_back(Scope.USER, "alice")
    assert not one.own[Scope.USER]
