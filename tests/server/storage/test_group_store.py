"""Groups and grants: what is stored, what is refused, what a user ends up with."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from sqlalchemy import text

from ollama_router_core.access.grants import Grants, InvalidGrants
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.group_store import GroupStore
from ollama_router_server.storage.identities import DuplicateName, GroupInUse, UnknownGroup, UnknownUser, UserChange
from ollama_router_server.storage.log_totals import DAY, HOUR
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.user_store import UserStore
from support.records import make_record
from support.storage import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def users(database: Database) -> UserStore:
    """No users yet."""
    return UserStore(database, clock=FakeClock(), cost=4)


@pytest.fixture
def groups(database: Database) -> GroupStore:
    """No groups yet."""
    return GroupStore(database, clock=FakeClock())


async def grants_of(users: UserStore, name: str) -> Grants:
    """What holds for a user, as the authenticator sees it."""
    identities = await users.identities()
    return next(token.user.grants for token in identities.tokens if token.user.name == name)


async def test_what_a_user_s_own_grants_do_not_say_the_group_s_do(users: UserStore, groups: GroupStore) -> None:
    """Field by field."""
    await groups.create("team", Grants(models=("llama*",), requests_per_minute=10))
    await users.create("alice", group="team")
    await users.set_grants("alice", {"requests_per_minute": 99})
    assert await grants_of(users, "alice") == Grants(models=("llama*",), requests_per_minute=99)
    await users.set_grants("alice", {"requests_per_minute": None})
    assert await grants_of(users, "alice") == Grants(models=("llama*",), requests_per_minute=10)
    await users.change("alice", UserChange(moves=True, group=None))
    assert await grants_of(users, "alice") == Grants()


async def test_every_change_moves_the_epoch(users: UserStore, groups: GroupStore) -> None:
    """So that every process notices."""
    await users.create("alice")
    before = await users.epoch()
    await groups.create("team")
    await groups.set_grants("team", {"cloud": False})
    await users.change("alice", UserChange(moves=True, group="team"))
    await users.set_grants("alice", {"models": ["a"]})
    await users.add_token("alice", "laptop")
    await users.change("alice", UserChange(moves=True, group=None))
    await groups.delete("team")
    assert await users.epoch() == before + 7


async def test_a_refused_change_changes_nothing(users: UserStore, groups: GroupStore) -> None:
    """Neither grants nor epoch."""
    await users.create("alice", grants=Grants(models=("a",)))
    epoch = await users.epoch()
    with pytest.raises(InvalidGrants):
        await users.set_grants("alice", {"models": ["b"], "networks": ["nowhere"]})
    with pytest.raises(UnknownGroup):
        await users.change("alice", UserChange(moves=True, group="nobody"))
    with pytest.raises(UnknownUser):
        await users.set_grants("bob", {"cloud": True})
    with pytest.raises(UnknownGroup, match="team"):
        await groups.set_grants("team", {})
    assert (await grants_of(users, "alice"), await users.epoch()) == (Grants(models=("a",)), epoch)


async def test_a_group_with_members_stays(users: UserStore, groups: GroupStore) -> None:
    """Its limits would go with it; a deleted user is no member any more."""
    await groups.create("team")
    await users.create("alice", group="team")
    with pytest.raises(GroupInUse, match="members"):
        await groups.delete("team")
    assert (await groups.show("team")).members == ("alice",)
    await users.delete("alice")
    await groups.delete("team")
    assert await groups.list() == ()


async def test_a_page_of_groups_adds_up_their_members_of_now(
    users: UserStore, groups: GroupStore, database: Database
) -> None:
    """Requests and tokens of seven days, wherever they were when they asked; a page says where the next begins."""
    for name in ("apes", "bees", "cats"):
        await groups.create(name)
    for name, group in {"alice": "bees", "bob": "bees", "carol": None}.items():
        await users.create(name, group=group)
    week, day = FakeClock().wall() // DAY * DAY, 86_400.0
    made = [
        make_record(number, started_at=at, user=user, prompt_tokens=10, completion_tokens=5)
        for number, (user, at) in enumerate(
            [("alice", week), ("alice", week - 6 * day), ("bob", week), ("carol", week), ("bob", week - 7 * day)]
        )
    ]
    await RequestLog(database).insert(made)
    page = await groups.page(limit=2)
    told = [(group.name, group.members, group.requests, group.tokens) for group in page.groups]
    assert (told, page.next, page.matching) == ([("apes", 0, 0, 0), ("bees", 2, 3, 45)], "bees", 3)
    rest = await groups.page(after=page.next, limit=2)
    assert ([group.name for group in rest.groups], rest.next, rest.matching) == (["cats"], None, 3)
    found = await groups.page(search="EE", limit=2)
    assert ([group.name for group in found.groups], found.matching) == (["bees"], 1)


@pytest.mark.parametrize("step", [HOUR, DAY])
@pytest.mark.parametrize("since", [0.0, 5 * 3_600.0, 30 * 3_600.0 + 7])
async def test_steps_of_groups_have_every_request_of_their_members_once(
    users: UserStore, groups: GroupStore, database: Database, step: int, since: float
) -> None:
    """By hour, or by day where a day is whole; the first hour and the last are whole, others' requests are left out."""
    for name in ("apes", "bees"):
        await groups.create(name)
    members = {"alice": "bees", "bob": "bees", "carol": "apes", "dan": None}
    for user, group in members.items():
        await users.create(user, group=group)
    begin, names = 20_000.0 * DAY, [*members, None]
    rows = [make_record(one, started_at=begin + one * 1_700.0, user=names[one % 5]) for one in range(200)]
    log = RequestLog(database)
    await log.insert(rows)
    found = await log.group_steps(["bees", "nobody"], since=begin + since, before=begin + 3.2 * DAY, step=step)
    first, end = begin + since // HOUR * HOUR, begin + math.ceil(3.2 * DAY / HOUR) * HOUR
    expected = Counter(
        int(row.started_at // HOUR * HOUR)
        for row in rows
        if first <= row.started_at < end and row.user in {"alice", "bob"}
    )
    days = Counter[int]()
    for start, requests in expected.items():
        days[start // step * step] += requests
    told = Counter[int]()
    for start, requests in found["bees"].items():
        assert start in expected or start % DAY == 0
        told[start // step * step] += requests
    assert (told, found["nobody"]) == (days, {})


async def test_names_are_given_once(users: UserStore, groups: GroupStore) -> None:
    """Of groups, and of a user's tokens."""
    await groups.create("team")
    with pytest.raises(DuplicateName):
        await groups.create("team")
    await users.create("alice")
    await users.add_token("alice", "laptop")
    with pytest.raises(DuplicateName):
        await users.add_token("alice", "laptop")
    assert [token.name for token in (await users.show("alice")).summary.tokens] == ["default", "laptop"]


async def test_grants_that_cannot_be_read_grant_nothing(users: UserStore, database: Database) -> None:
    """Written by hand or by a newer release: the door stays shut."""
    await users.create("alice")
    by_hand = text("""UPDATE users SET grants = '{"planets": ["mars"]}'""")
    await database.write(lambda connection: connection.execute(by_hand))
    grants = await grants_of(users, "alice")
    assert (grants.models, grants.kinds, grants.hosts) == ((), (), ())


async def test_other_changes_keep_grants_that_cannot_be_read(users: UserStore, database: Database) -> None:
    """What a newer release wrote is there when it runs again."""
    await users.create("alice")
    by_hand = text("""UPDATE users SET grants = '{"planets": ["mars"]}'""")
    await database.write(lambda connection: connection.execute(by_hand))
    await users.change("alice", UserChange(role="viewer"))
    stored = await database.read(lambda connection: connection.execute(text("SELECT role, grants FROM users")).one())
    assert stored == ("viewer", '{"planets": ["mars"]}')
