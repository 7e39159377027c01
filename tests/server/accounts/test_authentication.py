"""Authentication: the order of the checks, what they cost, and how soon a change takes hold."""

from __future__ import annotations

import asyncio
import string
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import bcrypt
import pytest
from msgspec import structs
from sqlalchemy import update
from sqlalchemy.engine import Connection

from ollama_router_core.access.token_proofs import TokenProver
from ollama_router_core.access.tokens import mint_token, verify_token
from ollama_router_core.coordination.in_process import InProcess
from ollama_router_core.coordination.news import TokenVerified
from ollama_router_core.errors import (
    AmbiguousCredential,
    InvalidCredential,
    MissingCredential,
    Overloaded,
    StorageUnavailable,
    UserInactive,
)
from ollama_router_server.accounts import verification
from ollama_router_server.accounts.authentication import Authenticator, Verification
from ollama_router_server.coordination.alone import alone
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.identities import UserChange
from ollama_router_server.storage.schema import tokens
from ollama_router_server.storage.user_store import UserStore
from support.authentication import verified
from support.eventually import eventually
from support.identities import bearer, seeded_token
from support.storage import FakeClock, back_up, delete_database, restore

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> FakeClock:
    """Time is moved by hand."""
    return FakeClock()


@pytest.fixture
def store(database: Database, clock: FakeClock) -> UserStore:
    """Users with quick digests."""
    return UserStore(database, clock=clock, cost=4)


@pytest.fixture
async def authenticator(store: UserStore, clock: FakeClock) -> AsyncIterator[Authenticator]:
    """Started, and looking for changes every 10 ms."""
    authenticator = Authenticator(store, clock=clock, workers=alone(), poll_interval=0.01)
    await authenticator.start()
    yield authenticator
    await authenticator.aclose()


async def known(store: UserStore, authenticator: Authenticator, name: str = "alice") -> list[tuple[bytes, bytes]]:
    """Header fields of a new user whom the authenticator knows already."""
    created = await store.create(name)
    await authenticator.refresh()
    return bearer(created.token)


def same_lookup(headers: list[tuple[bytes, bytes]], count: int) -> list[list[tuple[bytes, bytes]]]:
    """Well-formed tokens that share the public part with a known one."""
    lookup = headers[-1][1].decode().split()[1][:8]
    texts = [lookup + seeded_token(seed).reveal()[8:26] for seed in range(count)]
    digits = [iter(BASE62.index(character) for character in text) for text in texts]
    return [bearer(mint_token(lambda _, each=each: next(each))) for each in digits]


async def test_a_known_token_names_its_user(store: UserStore, authenticator: Authenticator) -> None:
    """First by bcrypt, then from memory, without waiting."""
    headers = await known(store, authenticator)
    assert isinstance(authenticator.authenticate(headers), Verification)
    user = await verified(authenticator, headers)
    assert (user.name, user.role) == ("alice", "user")
    assert authenticator.authenticate(headers) == user
    assert await verified(authenticator, headers) == user
    assert authenticator.verifications == 1


async def test_a_token_that_another_process_just_made_is_known(store: UserStore, clock: FakeClock) -> None:
    """Its first request finds it, however far off the next poll is."""
    authenticator = Authenticator(store, clock=clock, workers=alone(), poll_interval=600.0)
    await authenticator.start()
    created = await store.create("alice")
    assert (await verified(authenticator, bearer(created.token))).name == "alice"
    replaced = await store.regenerate_token("alice")
    assert (await verified(authenticator, bearer(replaced.token))).name == "alice"
    await authenticator.aclose()


async def test_a_token_that_is_read_while_its_first_request_is_about_to_look_is_known(
    store: UserStore, clock: FakeClock
) -> None:
    """It was refused, and so was each request with it until users changed again."""
    store.prover = TokenProver(bytes(32))
    authenticator = Authenticator(store, clock=clock, workers=alone(), poll_interval=600.0)
    await authenticator.start()
    headers = bearer((await store.create("alice")).token)
    about_to_look = authenticator.authenticate(headers)
    assert isinstance(about_to_look, Verification)
    await authenticator.refresh()
    assert (await about_to_look).name == "alice"
    assert (await verified(authenticator, headers)).name == "alice"
    assert authenticator.verifications == 0
    await authenticator.aclose()


async def test_tokens_of_nobody_cost_one_read_together(store: UserStore, clock: FakeClock) -> None:
    """200 at once: some wait for it, the rest is refused at once; none is looked for twice."""
    authenticator = Authenticator(store, clock=clock, workers=alone(), poll_interval=600.0)
    await authenticator.start()
    reads = 0

    async def read(epoch: Callable[[], Awaitable[int]] = store.epoch) -> int:
        nonlocal reads
        reads += 1
        return await epoch()

    store.epoch = read  # type: ignore[method-assign]
    junk = [bearer(seeded_token(seed)) for seed in range(200)]
    found = await asyncio.gather(*(verified(authenticator, one) for one in junk), return_exceptions=True)
    assert all(isinstance(one, InvalidCredential) for one in found)
    assert reads <= 4
    with pytest.raises(InvalidCredential):
        authenticator.authenticate(junk[0])
    await authenticator.aclose()


async def test_what_one_worker_has_verified_no_other_verifies(store: UserStore, clock: FakeClock) -> None:
    """Told with a proof: for the same token as it is now, and for nobody else's."""
    group = InProcess("router", b"s" * 32, size=2)
    one, other = (Authenticator(store, clock=clock, workers=group.member(index)) for index in range(2))
    headers = bearer((await store.create("alice")).token)
    await store.create("bob")
    for authenticator in (one, other):
        await authenticator.start()
    user = await verified(one, headers)
    (news,) = group.member(1).news()
    assert isinstance(news, TokenVerified)
    assert headers[-1][1].decode().split()[1] not in repr(news)
    forged = structs.replace(news, token_id=user.token_id + 1)
    other.hear(forged)
    other.hear(structs.replace(news, key=bytes(32)))
    assert isinstance(other.authenticate(headers), Verification)
    other.hear(news)
    assert other.authenticate(headers) == user
    assert other.verifications == 0
    await store.change("alice", UserChange(active=False))
    await other.refresh()
    with pytest.raises(UserInactive):
        other.authenticate(headers)
    for authenticator in (one, other):
        await authenticator.aclose()


async def test_both_fields_take_the_same_way(store: UserStore, authenticator: Authenticator) -> None:
    """A restriction cannot be met in one field and missed in the other."""
    headers = await known(store, authenticator)
    token = headers[-1][1].removeprefix(b"Bearer ")
    assert (await verified(authenticator, [(b"x-api-key", token)])).name == "alice"
    await store.change("alice", UserChange(active=False))
    await authenticator.refresh()
    for fields in (headers, [(b"x-api-key", token)]):
        with pytest.raises(UserInactive):
            await verified(authenticator, fields)


async def test_without_or_with_two_credentials(authenticator: Authenticator) -> None:
    """The errors of the core's reader come through, in both ways of asking."""
    for headers, error in [([], MissingCredential), ([*bearer("a"), *bearer("b")], AmbiguousCredential)]:
        with pytest.raises(error):
            authenticator.authenticate(headers)
        with pytest.raises(error):
            await verified(authenticator, headers)


async def test_junk_costs_no_bcrypt(store: UserStore, authenticator: Authenticator) -> None:
    """10,000 credentials of nobody: malformed, well-formed but unknown, SQL, digests, one character off."""
    headers = await known(store, authenticator)
    good = headers[-1][1].decode().split()[1]
    digest = (await store.identities()).tokens[0].digest
    junk = [seeded_token(seed).reveal() for seed in range(9_970)]
    junk += [good[:position] + ("a" if good[position] != "a" else "b") + good[position + 1 :] for position in range(32)]
    junk += ["'OR'1'='1", digest, "x", good[:-1], good + "0", good.swapcase()]
    tried = await asyncio.gather(*(verified(authenticator, bearer(text)) for text in junk), return_exceptions=True)
    assert all(isinstance(one, InvalidCredential) for one in tried)
    assert authenticator.verifications == 0


async def test_a_well_formed_stranger_is_verified_once(store: UserStore, authenticator: Authenticator) -> None:
    """Who knows a public part and the checksum costs one bcrypt a token; the refusal is remembered."""
    (stranger,) = same_lookup(await known(store, authenticator), 1)
    for _ in range(3):
        with pytest.raises(InvalidCredential):
            await verified(authenticator, stranger)
    with pytest.raises(InvalidCredential):
        authenticator.authenticate(stranger)
    assert authenticator.verifications == 1


async def test_hundred_requests_with_one_new_token_cost_one_bcrypt(
    store: UserStore, authenticator: Authenticator
) -> None:
    """Single flight: they wait for the same answer."""
    headers = await known(store, authenticator)
    users = await asyncio.gather(*(verified(authenticator, headers) for _ in range(100)))
    assert {user.name for user in users} == {"alice"}
    assert authenticator.verifications == 1


async def test_a_client_that_leaves_fails_no_other(
    store: UserStore, authenticator: Authenticator, slow_bcrypt: SlowBcrypt
) -> None:
    """Cancelling the first of those who wait does not cancel the verification."""
    headers = await known(store, authenticator)
    first = asyncio.create_task(verified(authenticator, headers))
    second = asyncio.create_task(verified(authenticator, headers))
    await eventually(slow_bcrypt.started)
    first.cancel()
    slow_bcrypt.finish()
    assert (await second).name == "alice"
    assert first.cancelled()


async def test_the_queue_for_bcrypt_is_bounded(store: UserStore, clock: FakeClock, slow_bcrypt: SlowBcrypt) -> None:
    """Beyond it, 503 with a time to come back: not a queue of minutes."""
    authenticator = Authenticator(store, clock=clock, workers=alone(), max_waiting=3)
    await authenticator.start()
    users = [await known(store, authenticator, f"user{number}") for number in range(4)]
    waiting = [asyncio.create_task(verified(authenticator, headers)) for headers in users[:3]]
    await eventually(slow_bcrypt.started)
    with pytest.raises(Overloaded) as caught:
        await verified(authenticator, users[3])
    assert caught.value.retry_after
    slow_bcrypt.finish()
    assert [user.name for user in await asyncio.gather(*waiting)] == ["user0", "user1", "user2"]
    assert (await verified(authenticator, users[3])).name == "user3"
    await authenticator.aclose()


async def test_one_known_public_part_cannot_fill_the_queue(
    store: UserStore, authenticator: Authenticator, slow_bcrypt: SlowBcrypt
) -> None:
    """A flood for one token leaves room for everybody else."""
    alice = await known(store, authenticator)
    bob = await known(store, authenticator, "bob")
    flood = [asyncio.create_task(verified(authenticator, headers)) for headers in same_lookup(alice, 50)]
    await eventually(slow_bcrypt.started)
    entering = asyncio.create_task(verified(authenticator, bob))
    slow_bcrypt.finish()
    assert (await entering).name == "bob"
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 48


async def test_a_deactivated_user_is_out_once_the_epoch_was_seen(
    store: UserStore, authenticator: Authenticator
) -> None:
    """Within one poll, cached or not; and back as fast."""
    headers = await known(store, authenticator)
    user = await verified(authenticator, headers)
    await store.change("alice", UserChange(active=False))
    await eventually(lambda: not authenticator.is_still_valid(user))
    with pytest.raises(UserInactive, match="alice"):
        authenticator.authenticate(headers)
    await store.change("alice", UserChange(active=True))
    await eventually(lambda: authenticator.is_still_valid(user))
    assert authenticator.authenticate(headers) == user
    assert authenticator.verifications == 1


async def test_a_regenerated_token_ends_the_old_one(store: UserStore, authenticator: Authenticator) -> None:
    """Also for streams that began with it, while the user stays."""
    headers = await known(store, authenticator)
    user = await verified(authenticator, headers)
    new = await store.regenerate_token("alice")
    await eventually(lambda: not authenticator.is_still_valid(user))
    with pytest.raises(InvalidCredential):
        await verified(authenticator, headers)
    assert (await verified(authenticator, bearer(new.token))).id == user.id


async def test_a_deleted_user_is_nobody(store: UserStore, authenticator: Authenticator) -> None:
    """Not inactive: unknown."""
    headers = await known(store, authenticator)
    user = await verified(authenticator, headers)
    await store.delete("alice")
    await authenticator.refresh()
    with pytest.raises(InvalidCredential):
        await verified(authenticator, headers)
    assert not authenticator.is_still_valid(user)


async def test_revoked_while_bcrypt_runs(
    store: UserStore, authenticator: Authenticator, slow_bcrypt: SlowBcrypt
) -> None:
    """What was verified against a digest that is gone by then counts for nothing."""
    headers = await known(store, authenticator)
    entering = asyncio.create_task(verified(authenticator, headers))
    await eventually(slow_bcrypt.started)
    await store.regenerate_token("alice")
    await authenticator.refresh()
    slow_bcrypt.finish()
    with pytest.raises(InvalidCredential):
        await entering
    with pytest.raises(InvalidCredential):
        await verified(authenticator, headers)


async def test_a_change_of_one_user_costs_the_others_no_bcrypt(store: UserStore, authenticator: Authenticator) -> None:
    """A new epoch must not make everybody's next request wait."""
    alice = await known(store, authenticator)
    await verified(authenticator, alice)
    await known(store, authenticator, "bob")
    await store.change("alice", UserChange(role="admin"))
    await authenticator.refresh()
    user = authenticator.authenticate(alice)
    assert user is not None
    assert user.role == "admin"
    assert authenticator.verifications == 1


async def test_listeners_hear_of_changes(store: UserStore, authenticator: Authenticator) -> None:
    """Each change, until they stop listening; a listener that fails stops nobody."""
    heard: list[str] = []

    def fail() -> None:
        raise RuntimeError("listener")

    authenticator.on_change(fail)
    remove = authenticator.on_change(lambda: heard.append("change"))
    await store.create("alice")
    await eventually(lambda: heard == ["change"])
    remove()
    remove()
    await store.create("bob")
    await authenticator.refresh()
    assert heard == ["change"]


async def test_closed_after_ten_minutes_without_the_database(
    store: UserStore, authenticator: Authenticator, clock: FakeClock, path: Path
) -> None:
    """Until then the known stay welcome; afterwards nobody is, and a live stream is not cut for it."""
    headers = await known(store, authenticator)
    user = await verified(authenticator, headers)
    backup = back_up(path)
    delete_database(path)
    clock.advance(599.0)
    assert await verified(authenticator, headers) == user
    clock.advance(2.0)
    with pytest.raises(StorageUnavailable) as caught:
        authenticator.authenticate(headers)
    assert caught.value.retry_after
    assert authenticator.is_still_valid(user)
    restore(backup, path)
    await eventually(lambda: answers(authenticator, headers))


def answers(authenticator: Authenticator, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether users are confirmed again."""
    try:
        authenticator.authenticate(headers)
    except (StorageUnavailable, InvalidCredential):
        return False
    return True


async def test_a_write_lock_keeps_nobody_out(
    store: UserStore, authenticator: Authenticator, database: Database, clock: FakeClock
) -> None:
    """The epoch can be read while another program writes."""
    headers = await known(store, authenticator)
    locked, done = threading.Event(), threading.Event()

    def lock(connection: Connection) -> None:
        connection.execute(update(tokens).values(last_used_at=1.0))
        locked.set()
        assert done.wait(10)

    writing = asyncio.create_task(database.write(lock))
    await asyncio.to_thread(locked.wait, 10)
    clock.advance(100.0)
    await authenticator.refresh()
    assert (await verified(authenticator, headers)).name == "alice"
    done.set()
    await writing


async def test_changes_made_by_hand_are_seen_within_a_minute(
    store: UserStore, authenticator: Authenticator, database: Database, clock: FakeClock
) -> None:
    """Somebody edits the table and knows nothing of epochs."""
    headers = await known(store, authenticator)
    await verified(authenticator, headers)
    await database.write(lambda connection: connection.exec_driver_sql("UPDATE users SET active = 0"))
    clock.advance(60.0)
    await authenticator.refresh()
    with pytest.raises(UserInactive):
        await verified(authenticator, headers)


async def test_tokens_of_the_rails_application(
    store: UserStore, authenticator: Authenticator, database: Database
) -> None:
    """Imported ones have no checksum of ours; marked as imported they verify all the same."""
    clear = "kJ8sD0fLq2Wz7XcVbN4mR1tY6uI9oP3e"
    await store.create("alice")
    digest = bcrypt.hashpw(clear.encode(), bcrypt.gensalt(4, b"2a")).decode()
    imported = update(tokens).values(lookup=clear[:8], digest=digest, imported=True)
    await database.write(lambda connection: connection.execute(imported))
    clock_free = Authenticator(store, clock=FakeClock(), workers=alone())
    await clock_free.start()
    assert (await verified(clock_free, bearer(clear))).name == "alice"
    with pytest.raises(InvalidCredential):
        await verified(clock_free, bearer(clear[:-1] + "f"))
    await clock_free.aclose()


async def test_last_use_is_written_on_the_way_out(
    store: UserStore, authenticator: Authenticator, clock: FakeClock
) -> None:
    """Never on a request's path."""
    headers = await known(store, authenticator)
    await verified(authenticator, headers)
    await authenticator.aclose()
    assert (await store.show("alice")).summary.tokens[0].last_used_at == clock.wall()


async def test_no_error_repeats_the_token(store: UserStore, authenticator: Authenticator) -> None:
    """Whatever is wrong with it, its text ends up in no log and no answer."""
    headers = await known(store, authenticator)
    canary = headers[-1][1].decode().split()[1]
    await store.change("alice", UserChange(active=False))
    await authenticator.refresh()
    with pytest.raises(UserInactive) as inactive:
        await verified(authenticator, headers)
    with pytest.raises(InvalidCredential) as unknown:
        await verified(authenticator, bearer(canary[::-1]))
    assert canary not in f"{inactive.value!r}"
    assert canary[::-1] not in f"{unknown.value!r}"


class SlowBcrypt:
    """A bcrypt that begins when asked and ends when told."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._release = threading.Event()

    def verify(self, credential: str, digest: str) -> bool:
        """As `verify_token`, after a wait."""
        self._begun.set()
        assert self._release.wait(20.0)
        return verify_token(credential, digest)

    def started(self) -> bool:
        """Whether a thread is in it."""
        return self._begun.is_set()

    def finish(self) -> None:
        """Let every call come to its end."""
        self._release.set()


@pytest.fixture
def slow_bcrypt(monkeypatch: pytest.MonkeyPatch) -> SlowBcrypt:
    """The authenticator's bcrypt, held up."""
    slow = SlowBcrypt()
    monkeypatch.setattr(verification, "verify_token", slow.verify)
    return slow


async def test_an_expiry_is_told_when_it_comes(
    store: UserStore, authenticator: Authenticator, clock: FakeClock
) -> None:
    """Nobody changed anything, and yet streams have to end; each expiry is told once."""
    await known(store, authenticator)
    for seconds in (60.0, 120.0):
        await store.set_grants("alice", {"expires_at": clock.wall() + seconds})
        await authenticator.refresh()
        heard: list[str] = []
        remove = authenticator.on_change(lambda heard=heard: heard.append("expired"))  # type: ignore[misc]
        clock.advance(seconds)
        await eventually(lambda heard=heard: heard == ["expired"])  # type: ignore[misc]
        remove()
