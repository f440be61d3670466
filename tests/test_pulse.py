"""A pulse: who waits is woken at each beat, and by no earlier one."""

import asyncio

from track_server.pulse import Pulse


async def test_all_who_wait_are_woken_and_who_waits_afterwards_waits_for_the_next_beat() -> None:
    pulse = Pulse()
    pulse.beat()
    waiting = [asyncio.create_task(pulse.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    pulse.beat()
    async with asyncio.timeout(45):
        await asyncio.gather(*waiting)


async def test_a_condition_is_looked_at_before_the_first_beat_and_at_each() -> None:
    pulse = Pulse()
    looks: list[int] = []

    def third() -> bool:
        looks.append(1)
        return len(looks) == 3

    assert await pulse.until(lambda: True, 0)
    waiting = asyncio.create_task(pulse.until(third, 45))
    for expected in (1, 2):
        await asyncio.sleep(0)
        assert len(looks) == expected
        pulse.beat()
        await asyncio.sleep(0)
    assert await waiting
    assert len(looks) == 3


async def test_what_does_not_come_to_hold_is_not_waited_for_longer() -> None:
    assert not await Pulse().until(lambda: False, 0.01)


async def test_what_holds_at_the_end_without_a_beat_is_said() -> None:
    answers = iter([False, True])
    assert await Pulse().until(lambda: next(answers), 0.01)
