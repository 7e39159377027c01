"""bcrypt is asked at most once in a token's life, and a token's public part is of no use to a stranger."""

from __future__ import annotations

import asyncio
import string
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from ollama_router_core.access.token_proofs import TokenProver
from ollama_router_core.access.tokens import Token, hash_token, mint_token
from ollama_router_core.errors import InvalidCredential, Overloaded
from ollama_router_server.accounts.authentication import Authenticator, Verification
from ollama_router_server.coordination.alone import alone
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.schema import token_proofs, tokens
from ollama_router_server.storage.user_store import UserStore
from support.authentication import verified
from support.eventually import eventually_async
from support.identities import bearer, seeded_token
from support.storage import FakeClock, back_up, delete_database, restore

pytestmark = pytest.mark.anyio

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
IMPORTED = "kJ8sD0fLq2Wz7XcVbN4mR1tY6uI9oP3e"
PROVER = TokenProver(b"k" * 32)


def store_of(database: Database, clock: FakeClock, prover: TokenProver | None = PROVER) -> UserStore:
    """Users with quick digests."""
    return UserStore(database, clock=clock, cost=4, prover=prover)


@asynccontextmanager
async def started(store: UserStore, clock: FakeClock) -> AsyncIterator[Authenticator]:
    """A router's authenticator from its start to its end."""
    authenticator = Authenticator(store, clock=clock, workers=alone(), poll_interval=0.01)
    await authenticator.start()
    yield authenticator
    await authenticator.aclose()


async def imported_user(database: Database, clock: FakeClock) -> None:
    """A user of the Rails application: a digest without a proof, a token without our checksum."""
    await store_of(database, clock, None).create("alice")
    digest = hash_token(Token(IMPORTED), salt=b"s" * 16, cost=4)
    imported = update(tokens).values(lookup=IMPORTED[:8], digest=digest, imported=True)
    await database.write(lambda connection: connection.execute(imported))


async def proofs_in(database: Database) -> int:
    """How many proofs are stored."""
    return await database.read(lambda connection: len(connection.execute(select(token_proofs)).all()))


def with_public_part_of(headers: list[tuple[bytes, bytes]], seed: int) -> list[tuple[bytes, bytes]]:
    """A well-formed token that shares its first characters with another."""
    text = headers[-1][1].decode().split()[1][:8] + seeded_token(seed).reveal()[8:26]
    digits = iter(BASE62.index(character) for character in text)
    return bearer(mint_token(lambda _: next(digits)))


async def test_an_imported_token_costs_one_bcrypt_in_its_life(database: Database) -> None:
    """Not after a minute without requests, not after a restart, not after a change of users."""
    clock = FakeClock()
    await imported_user(database, clock)
    headers = bearer(IMPORTED)
    async with started(store_of(database, clock), clock) as first:
        assert (await verified(first, headers)).name == "alice"
        for _ in range(3):
            clock.advance(3_600.0)
            await first.refresh()
            assert not isinstance(first.authenticate(headers), Verification)
        await store_of(database, clock).create("bob")
        await first.refresh()
        assert not isinstance(first.authenticate(headers), Verification)
        assert first.verifications == 1
    async with started(store_of(database, clock), clock) as restarted:
        assert (await verified(restarted, headers)).name == "alice"
        assert restarted.verifications == 0


async def _has_proofs(database: Database) -> bool:
    return bool(await proofs_in(database))


async def test_a_killed_router_has_stored_the_proof(database: Database) -> None:
    """It is written right after the verification, not at the end of the process."""
    clock = FakeClock()
    await imported_user(database, clock)
    async with started(store_of(database, clock), clock) as first:
        await verified(first, bearer(IMPORTED))
        await eventually_async(lambda: _has_proofs(database))
        async with started(store_of(database, clock), clock) as second_worker:
            await verified(second_worker, bearer(IMPORTED))
            assert second_worker.verifications == 0


async def test_a_new_token_has_its_proof_from_the_start(database: Database) -> None:
    """Where it is minted it is known in clear: bcrypt has nothing to add."""
    clock = FakeClock()
    store = store_of(database, clock)
    created = [(await store.create("alice")).token, (await store.add_token("alice", "laptop")).token]
    created.append((await store.regenerate_token("alice", token_name="laptop")).token)
    async with started(store, clock) as authenticator:
        assert (await verified(authenticator, bearer(created[0]))).name == "alice"
        assert (await verified(authenticator, bearer(created[2]))).name == "alice"
        with pytest.raises(InvalidCredential):
            await verified(authenticator, bearer(created[1]))
        assert authenticator.verifications == 0
    assert await proofs_in(database) == 2


async def test_hundred_users_after_a_restart_wait_for_no_bcrypt(database: Database) -> None:
    """Each is answered at once: no queue, no refusal."""
    clock = FakeClock()
    store = store_of(database, clock)
    users = [bearer((await store.create(f"user{number}")).token) for number in range(100)]
    async with started(store_of(database, clock), clock) as restarted:
        found = [restarted.authenticate(headers) for headers in users]
        assert not any(isinstance(each, Verification) for each in found)
        assert restarted.verifications == 0


async def test_39_of_39_strangers_with_the_first_characters_hurt_nobody(database: Database) -> None:
    """While they try all the time, the owner enters each time, and no thread is busy."""
    clock = FakeClock()
    store = store_of(database, clock)
    owner = bearer((await store.create("alice")).token)
    async with started(store, clock) as authenticator:
        for seed in range(39):
            with pytest.raises(InvalidCredential):
                authenticator.authenticate(with_public_part_of(owner, seed))
            clock.advance(61.0)  # nothing is remembered of the owner
            await authenticator.refresh()
            assert not isinstance(authenticator.authenticate(owner), Verification)
        assert authenticator.verifications == 0


async def test_a_proof_falls_with_its_digest(database: Database) -> None:
    """A digest replaced by hand is asked of bcrypt; a deleted token leaves nothing."""
    clock = FakeClock()
    store = store_of(database, clock)
    old = bearer((await store.create("alice")).token)
    other = seeded_token(7)
    replaced = update(tokens).values(lookup=other.reveal()[:8], digest=hash_token(other, salt=b"t" * 16, cost=4))
    await database.write(lambda connection: connection.execute(replaced))
    async with started(store, clock) as authenticator:
        with pytest.raises(InvalidCredential):
            await verified(authenticator, old)
        assert (await verified(authenticator, bearer(other))).name == "alice"
        assert authenticator.verifications == 1
    await database.write(lambda connection: connection.execute(delete(tokens)))
    assert await proofs_in(database) == 0


async def test_routers_with_keys_of_their_own_keep_a_proof_each(database: Database) -> None:
    """On one database, without a shared key file: one bcrypt each, and none takes the other's place."""
    clock = FakeClock()
    headers = bearer((await store_of(database, clock, None).create("alice")).token)
    provers = [TokenProver(bytes([number]) * 32) for number in range(2)]
    for expected in (1, 0):
        async with AsyncExitStack() as stack:
            for prover in provers:
                router = await stack.enter_async_context(started(store_of(database, clock, prover), clock))
                await verified(router, headers)
                assert router.verifications == expected
    assert await proofs_in(database) == 2


async def test_a_proof_waits_for_the_database(database: Database, path: Path) -> None:
    """It is away while bcrypt answers: the request passes, and the proof is stored later."""
    clock = FakeClock()
    await imported_user(database, clock)
    async with started(store_of(database, clock), clock) as authenticator:
        backup = back_up(path)
        delete_database(path)
        assert (await verified(authenticator, bearer(IMPORTED))).name == "alice"
        clock.advance(20.0)
        assert not isinstance(authenticator.authenticate(bearer(IMPORTED)), Verification)
        restore(backup, path)
    assert await proofs_in(database) == 1


async def test_no_error_and_no_value_shows_a_proof(database: Database) -> None:
    """They are of no use without the key, and still stay out of logs."""
    store = store_of(database, FakeClock())
    await store.create("alice")
    (known,) = (await store.identities()).tokens
    assert known.proof
    assert known.proof not in repr(known)


async def test_39_strangers_elsewhere_do_not_take_the_place_of_a_token_s_first_use(database: Database) -> None:
    """A token without a proof: a flood of its public part uses up the places of the flood's own address alone."""
    clock = FakeClock()
    owner = bearer((await store_of(database, clock, None).create("alice")).token)
    async with started(store_of(database, clock), clock) as authenticator:

        async def enter(headers: list[tuple[bytes, bytes]], address: str) -> str:
            found = authenticator.authenticate(headers, address)
            return (await found if isinstance(found, Verification) else found).name

        flood = [asyncio.create_task(enter(with_public_part_of(owner, seed), "192.0.2.1")) for seed in range(39)]
        entering = asyncio.create_task(enter(owner, "192.0.2.2"))
        assert await entering == "alice"
        assert await enter(owner, "192.0.2.1") == "alice"
        outcomes = await asyncio.gather(*flood, return_exceptions=True)
    assert all(isinstance(outcome, InvalidCredential | Overloaded) for outcome in outcomes)
