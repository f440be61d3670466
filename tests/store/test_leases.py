"""What leases must do on every backend of the store."""

import asyncio

from tests.store.conftest import Clock
from track_server.store.leases import Leases
from track_server.store.records import Store

FOR_S = 6.0


async def test_one_owner_at_a_time_holds_it(store: Store, clock: Clock) -> None:
    one, two = Leases(store, "one", clock=clock), Leases(store, "two", clock=clock)
    lease = await one.take("room", "work", FOR_S)
    assert lease is not None
    assert lease.expire_time == clock.now + FOR_S
    assert await two.take("room", "work", FOR_S) is None
    # Other rooms and other work are others'.
    assert await two.take("other", "work", FOR_S) is not None
    assert await two.take("room", "other", FOR_S) is not None


async def test_of_many_who_come_at_once_one_gets_it(store: Store, clock: Clock) -> None:
    owners = [Leases(store, f"owner {number}", clock=clock) for number in range(20)]
    found = await asyncio.gather(*(owner.take("room", "work", FOR_S) for owner in owners))
    assert len([lease for lease in found if lease is not None]) == 1


async def test_it_lapses_and_is_taken_over_with_a_greater_fence(store: Store, clock: Clock) -> None:
    one, two = Leases(store, "one", clock=clock), Leases(store, "two", clock=clock)
    lease = await one.take("room", "work", FOR_S)
    assert lease is not None
    clock.now += FOR_S
    taken = await two.take("room", "work", FOR_S)
    assert taken is not None
    assert taken.fence > lease.fence
    # Who comes late learns of it, and takes nothing away.
    assert await one.renew(lease, FOR_S) is None
    await one.release(lease)
    assert await one.take("room", "work", FOR_S) is None
    assert await two.renew(taken, FOR_S) is not None


async def test_it_is_held_as_long_as_it_is_renewed(store: Store, clock: Clock) -> None:
    one, two = Leases(store, "one", clock=clock), Leases(store, "two", clock=clock)
    lease = await one.take("room", "work", FOR_S)
    for _ in range(3):
        assert lease is not None
        clock.now += FOR_S / 2
        fence = lease.fence
        lease = await one.renew(lease, FOR_S)
        assert lease is not None
        assert lease.fence > fence
        assert await two.take("room", "work", FOR_S) is None


async def test_one_that_has_lapsed_is_not_renewed(store: Store, clock: Clock) -> None:
    one = Leases(store, "one", clock=clock)
    lease = await one.take("room", "work", FOR_S)
    assert lease is not None
    clock.now += FOR_S
    assert await one.renew(lease, FOR_S) is None


async def test_its_owner_may_take_it_anew(store: Store, clock: Clock) -> None:
    one = Leases(store, "one", clock=clock)
    first = await one.take("room", "work", FOR_S)
    again = await one.take("room", "work", FOR_S)
    assert first is not None
    assert again is not None
    assert again.fence > first.fence
    assert await one.renew(first, FOR_S) is None


async def test_one_that_is_given_up_is_there_for_the_next(store: Store, clock: Clock) -> None:
    one, two = Leases(store, "one", clock=clock), Leases(store, "two", clock=clock)
    lease = await one.take("room", "work", FOR_S)
    assert lease is not None
    await one.release(lease)
    taken = await two.take("room", "work", FOR_S)
    assert taken is not None
    assert taken.fence > lease.fence
    # Once more: it is somebody else's by now.
    await one.release(lease)
    assert await one.take("room", "work", FOR_S) is None
