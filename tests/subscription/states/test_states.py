"""What is known of a subscriber's state, and for how long; the rooms are LiveKit's."""

import asyncio
import json

import pytest

from tests.livekit_process import LiveKitProcess
from tests.participants import participant
from tests.states import OWNER, hearing
from track.v1 import event_pb2, track_pb2
from track.v1.subscription_pb2 import SubscriberState
from track_server.errors import CompanionMissing
from track_server.livekit.datachannel import DataMessage
from track_server.subscription.states import states as module
from track_server.subscription.states.attended import silence_s
from track_server.subscription.states.message import TOPIC, Pace


async def test_what_is_measured_expires_and_is_told_and_the_rest_stays(
    livekit: LiveKitProcess, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEASURED_S", 0.5)
    async with participant(livekit, room, "alice") as alice, hearing(livekit, room) as heard:
        sid = alice.local_participant.sid
        state = SubscriberState(receive_codecs=["vp8"], downlink_bps=500_000, cpu_load=0.5)
        told: list[str] = []
        heard.states.listen(lambda _, identity: told.append(identity))
        assert heard.states.report(room, "alice", sid, state) == state
        assert heard.of("alice") == state
        # Once more the same is nothing new, and counts from now on.
        heard.states.report(room, "alice", sid, state)
        assert told == ["alice"]
        await heard.until(lambda: heard.states.has_companion(room, "alice") is False)
        told.clear()
        heard.states.report(room, "alice", sid, state)
        await heard.until(lambda: heard.of("alice") == SubscriberState(receive_codecs=["vp8"]))
        await heard.until(lambda: told[-1:] == ["alice"])
        # Of another connection nothing is known.
        heard.states.report(room, "alice", "PA_other", SubscriberState(cpu_load=0.25))
        await heard.until(lambda: heard.of("alice") == SubscriberState())


async def test_a_room_is_watched_while_something_is_known_of_it(livekit: LiveKitProcess, room: str) -> None:
    async with hearing(livekit, room) as heard:
        async with participant(livekit, room, "alice") as alice:
            sid = alice.local_participant.sid
            heard.states.report(room, "alice", sid, SubscriberState(cpu_load=0.5))
            await heard.until(lambda: heard.states.has_companion(room, "alice") is False)
            assert heard.standing.wanted(room)
            # Nobody asks for companions any more: what an app has reported stays.
            heard.attendance.unfollow(OWNER, room)
            assert heard.of("alice").cpu_load == 0.5
            assert heard.states.has_companion(room, "alice") is None
        async with asyncio.timeout(45):
            while heard.standing.wanted(room):
                await asyncio.sleep(0.05)


async def test_the_end_of_a_connection_takes_nothing_of_the_next_one(livekit: LiveKitProcess, room: str) -> None:
    async with participant(livekit, room, "alice") as alice, hearing(livekit, room) as heard:
        sid = alice.local_participant.sid
        heard.states.report(room, "alice", sid, SubscriberState(cpu_load=0.5))
        # LiveKit tells of the end of the one before after the API has shown this one.
        before = track_pb2.Participant(identity="alice", sid="PA_before")
        heard.states.happened(room, event_pb2.RoomEvent(participant_left=before))
        assert heard.of("alice").cpu_load == 0.5


async def test_a_report_of_a_connection_that_has_gone_says_nothing_of_the_next_one(
    livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, hearing(livekit, room) as heard:
        await heard.until(lambda: heard.states.has_companion(room, "alice") is False)
        attended = heard.attended()
        for sid, load in ((alice.local_participant.sid, 0.5), ("PA_before", 0.75)):
            payload = json.dumps({"state": {"cpuLoad": load}}).encode()
            attended.take(DataMessage("alice", sid, TOPIC, payload))
        assert heard.of("alice").cpu_load == 0.5


async def test_who_leaves_while_it_is_asked_leaves_nothing_behind(
    livekit: LiveKitProcess, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hearing(livekit, room) as heard:
        asked, answered = asyncio.Event(), asyncio.Event()

        async def answer(*_: object) -> None:
            asked.set()
            # It is answered as soon as she has left, before the room's attendance has looked who is there.
            while "alice" in heard.live.model.participants:
                await asyncio.sleep(0)
            answered.set()
            raise CompanionMissing("there is none")

        monkeypatch.setattr(heard.companion, "capabilities", answer)
        async with asyncio.timeout(45):
            async with participant(livekit, room, "alice"):
                await asked.wait()
            await answered.wait()
        assert not heard.standing.wanted(room)


def test_a_companion_that_never_reports_is_told_less_and_less_often() -> None:
    pauses = [silence_s(in_vain) for in_vain in range(100)]
    assert pauses[:3] == [20, 40, 80]
    assert max(pauses) == pauses[-1] == 640


def test_a_flood_is_let_in_at_a_rate() -> None:
    pace = Pace()
    taken = [number for number in range(10_000) if pace.allows(100, number / 1000)]
    assert len(taken) == pytest.approx(60 + 10 * 12, abs=2)
    # Reports that are long count more.
    long = Pace()
    assert sum(long.allows(15_000, number / 1000) for number in range(10_000)) < 45
