"""Users and their tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from ollama_router_core.access.grants import Grants
from ollama_router_core.access.token_proofs import TokenProver
from ollama_router_core.access.tokens import check_format, verify_token
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.identities import DuplicateName, InvalidUserName, UnknownUser, UserChange, UserFilter
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.token_usage import TokenUsage
from ollama_router_server.storage.user_store import UserStore
from support.records import make_record
from support.storage import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> FakeClock:
    """Time stands still unless moved."""
    return FakeClock()


@pytest.fixture
def store(database: Database, clock: FakeClock) -> UserStore:
    """Users with quick digests."""
    return UserStore(database, clock=clock, cost=4)


async def test_a_created_user_has_a_token_that_verifies(store: UserStore, clock: FakeClock) -> None:
    """The token is shown once; only its digest is kept."""
    created = await store.create("alice", role="admin")
    assert check_format(created.token.reveal())
    (known,) = (await store.identities()).tokens
    assert verify_token(created.token.reveal(), known.digest)
    assert (known.user.name, known.user.role, known.user.active) == ("alice", "admin", True)
    (listed,) = await store.list()
    assert listed.created_at == clock.wall()
    assert listed.tokens[0].lookup == created.token.reveal()[:8]


async def test_the_use_of_all_is_that_of_each(store: UserStore, database: Database) -> None:
    """Requests of seven days and tokens of the month: of some who are named, and of everybody."""
    for name in ("alice", "bob"):
        await store.create(name)
    today = 20_000
    ages = (("alice", 0.5), ("alice", 6.0), ("bob", 1.0), ("bob", 9.0))
    rows = [make_record(n, user=user, started_at=(today - age) * 86_400) for n, (user, age) in enumerate(ages)]
    await RequestLog(database).insert(rows)
    await TokenUsage(database).add({("bob", today): 60})
    everybody = await store.recent_use(None, today=today)
    assert {name: (use.requests, use.tokens) for name, use in everybody.items()} == {
        "alice": (2, {}),
        "bob": (1, {today: 60}),
    }
    assert await store.recent_use(["bob"], today=today) == {"bob": everybody["bob"]}


async def test_no_repr_shows_a_token_or_a_digest(store: UserStore) -> None:
    """Whatever ends up in a log by accident."""
    created = await store.create("alice")
    identities = await store.identities()
    shown = f"{created} {identities} {await store.show('alice')} {await store.list()}"
    assert created.token.reveal() not in shown
    assert identities.tokens[0].digest not in shown


async def test_a_name_can_be_taken_once(store: UserStore) -> None:
    """And the refusal changes nothing, not even the epoch."""
    await store.create("alice")
    epoch = await store.epoch()
    with pytest.raises(DuplicateName, match="alice"):
        await store.create("alice")
    assert await store.epoch() == epoch
    assert await store.count() == 1


@pytest.mark.parametrize("name", ["", " alice", "alice ", "a\nb", "a\x1b[31m", "x" * 101])
async def test_names_that_could_fool_a_terminal_or_a_log_are_refused(store: UserStore, name: str) -> None:
    """Names are printed, typed and logged."""
    with pytest.raises(InvalidUserName):
        await store.create(name)


async def test_hostile_names_are_only_names(store: UserStore) -> None:
    """Every value is bound, none is SQL."""
    name = "x'; DROP TABLE users; --"
    await store.create(name)
    assert (await store.show(name)).summary.name == name
    assert await store.count() == 1


async def test_an_unknown_name_lists_known_ones(store: UserStore) -> None:
    """The operator sees at once what the name should have been."""
    with pytest.raises(UnknownUser, match="there are no users yet"):
        await store.show("alice")
    for name in ("alice", "bob"):
        await store.create(name)
    with pytest.raises(UnknownUser, match=r"'alcie'.*known: alice, bob"):
        await store.change("alcie", UserChange(active=False))


async def test_many_known_names_are_cut_short_nearest_first(store: UserStore) -> None:
    """Ten thousand names would help nobody."""
    for number in range(22):
        await store.create(f"user{number:02}")
    await store.create("zoe")
    with pytest.raises(UnknownUser, match=r"known: zoe, .* and 3 more"):
        await store.show("zooe")


Change = Callable[[UserStore], Awaitable[object]]


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.create("bob"),
        lambda store: store.change("alice", UserChange(active=True)),
        lambda store: store.change("alice", UserChange(active=False)),
        lambda store: store.change("alice", UserChange(role="viewer")),
        lambda store: store.regenerate_token("alice"),
        lambda store: store.regenerate_token("alice", token_name="laptop"),
        lambda store: store.revoke_token("alice", "default"),
        lambda store: store.delete("alice"),
    ],
)
async def test_every_change_moves_the_epoch(store: UserStore, change: Change) -> None:
    """Each process sees by one number that it must look again."""
    await store.create("alice")
    before = await store.epoch()
    await change(store)
    assert await store.epoch() > before
    assert (await store.identities()).epoch == await store.epoch()


async def test_reading_moves_no_epoch(store: UserStore) -> None:
    """Nor does noting that a token was used."""
    await store.create("alice")
    before = await store.epoch()
    token_id = (await store.identities()).tokens[0].user.token_id
    await store.list()
    await store.show("alice")
    await store.note_use({token_id: 5.0})
    await store.note_use({})
    assert await store.epoch() == before
    assert (await store.show("alice")).summary.tokens[0].last_used_at == 5.0


async def test_deactivating_and_activating(store: UserStore) -> None:
    """Tokens stay, access goes and comes back."""
    await store.create("alice")
    await store.change("alice", UserChange(active=False))
    assert [known.user.active for known in (await store.identities()).tokens] == [False]
    await store.change("alice", UserChange(active=True))
    assert [known.user.active for known in (await store.identities()).tokens] == [True]


async def test_regenerating_replaces_the_token_under_a_new_id(store: UserStore) -> None:
    """The old one is gone, and a stream that began with it can be told apart."""
    old = await store.create("alice")
    (before,) = (await store.identities()).tokens
    new = await store.regenerate_token("alice")
    (after,) = (await store.identities()).tokens
    assert verify_token(new.token.reveal(), after.digest)
    assert not verify_token(old.token.reveal(), after.digest)
    assert after.user.token_id != before.user.token_id


async def test_named_tokens_live_side_by_side(store: UserStore) -> None:
    """One a device; each is replaced and revoked alone."""
    await store.create("alice")
    await store.regenerate_token("alice", token_name="laptop")
    names = [info.name for info in (await store.show("alice")).summary.tokens]
    assert names == ["default", "laptop"]
    await store.revoke_token("alice", "default")
    with pytest.raises(UnknownUser, match="no token named 'default'; known: laptop"):
        await store.revoke_token("alice", "default")


async def test_a_token_may_be_of_batch_priority(store: UserStore) -> None:
    """It is alone among the user's, also where the user is granted otherwise, and stays so when it is replaced."""
    await store.create("alice", grants=Grants(batch=False))
    await store.add_token("alice", "nightly", batch=True)
    await store.regenerate_token("alice", token_name="nightly")
    assert [(info.name, info.batch) for info in (await store.show("alice")).summary.tokens] == [
        ("default", False),
        ("nightly", True),
    ]
    known = sorted((await store.identities()).tokens, key=lambda one: one.user.token_id)
    assert [one.user.grants.batch for one in known] == [False, True]
    assert (await store.grants("alice")).batch is False


async def test_ids_of_deleted_rows_are_not_used_again(store: UserStore) -> None:
    """A stream of a deleted user must not become another's."""
    await store.create("alice")
    (old,) = (await store.identities()).tokens
    await store.delete("alice")
    await store.create("bob")
    (new,) = (await store.identities()).tokens
    assert new.user.id != old.user.id
    assert new.user.token_id != old.user.token_id


async def test_show_sums_up_and_gives_the_last_ten(store: UserStore, database: Database) -> None:
    """Totals over all rows, newest first, nobody else's."""
    log = RequestLog(database)
    await store.create("alice")
    assert (await store.show("alice")).mean_ms is None
    rows = [
        make_record(number, status=500 if number % 4 == 0 else 200, total_ms=float(number), prompt_tokens=2)
        for number in range(12)
    ]
    await log.insert([*rows, make_record(99, user="bob")])
    details = await store.show("alice")
    assert (details.summary.requests, details.errors, details.mean_ms) == (12, 3, 5.5)
    assert (details.prompt_tokens, details.completion_tokens) == (24, 0)
    assert [record.id for record in details.last_requests] == [f"request-{n}" for n in range(11, 1, -1)]
    (listed,) = await store.list()
    assert listed.requests == 12


async def test_deleting_a_user_deletes_the_log_rows_too(store: UserStore, database: Database) -> None:
    """As the original promised; others' rows stay."""
    log = RequestLog(database)
    await store.create("alice")
    await log.insert([make_record(1), make_record(2), make_record(3, user="bob")])
    assert await store.delete("alice") == 2
    assert await store.count() == 0
    assert (await store.identities()).tokens == ()
    assert [record.user for record in await log.list(LogFilter())] == ["bob"]


async def test_an_unknown_role_is_a_programming_error(store: UserStore) -> None:
    """Three roles there are."""
    with pytest.raises(ValueError, match="admin, user, viewer"):
        await store.create("alice", role="root")  # type: ignore[arg-type]


async def test_a_proof_is_kept_for_each_key_and_replaced(database: Database, clock: FakeClock) -> None:
    """Also of a token that is gone by the time its proof is written: then there is nothing to keep."""
    ours, theirs = (
        UserStore(database, clock=clock, cost=4, prover=TokenProver(bytes([number]) * 32)) for number in range(2)
    )
    await ours.create("alice")
    (fresh,) = (await theirs.identities()).tokens
    assert fresh.proof is None
    for proof in ("0" * 64, "1" * 64):
        await theirs.store_proofs((replace(fresh, proof=proof),))
        assert (await theirs.identities()).tokens[0].proof == proof
    assert (await ours.identities()).tokens[0].proof not in {None, "0" * 64, "1" * 64}
    await ours.delete("alice")
    await theirs.store_proofs((replace(fresh, proof="2" * 64),))
    assert not (await theirs.identities()).tokens


async def test_users_are_paged_searched_and_counted(store: UserStore) -> None:
    """By name, a page at a time; what matches is counted whole, and a part of a name is taken literally."""
    for name in ("alice", "Albert", "bob", "a%b"):
        await store.create(name, role="viewer" if name == "bob" else "user")
    first = await store.page(UserFilter(), limit=3)
    assert (first.matching, first.next) == (4, first.users[-1].name)
    second = await store.page(UserFilter(), after=first.next, limit=3)
    assert (len(second.users), second.next) == (1, None)
    assert len({user.name for user in (*first.users, *second.users)}) == 4
    assert {user.name for user in (await store.page(UserFilter(search="AL"))).users} == {"alice", "Albert"}
    assert [user.name for user in (await store.page(UserFilter(search="%"))).users] == ["a%b"]
    assert [user.name for user in (await store.page(UserFilter(role="viewer"))).users] == ["bob"]
    assert (await store.page(UserFilter(active=False))).matching == 0
    assert (await store.page(UserFilter(group="nobody"))).users == ()
