"""Adaptation: a publisher's loss is acted on once for all its subscribers, judged, taken back, and derived anew."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.quality_policies import CAP, NETWORK, OFF, actions, delete_policy, quick, set_policy
from tests.reported import Uplink, uplink
from tests.streams import EventStream, events
from tests.subscriptions import listed, subscription
from tests.track_process import Client, TrackProcess
from track.v1 import quality_policy_pb2 as pb
from track.v1 import subscription_pb2 as sub
from track.v1 import track_pb2

LOW, MEDIUM, HIGH = (
    track_pb2.VIDEO_QUALITY_LOW,
    track_pb2.VIDEO_QUALITY_MEDIUM,
    track_pb2.VIDEO_QUALITY_HIGH,
)
DOWN, RELEASE = pb.QUALITY_MOVE_DOWN, pb.QUALITY_MOVE_RELEASE


@dataclass
class Scene:
    """Ann talks and shows herself to two others, and tells what is lost of her sound."""

    admin: Client
    room: str
    sound: Uplink
    sid: str
    stream: EventStream

    async def caps(self, who: str, holds: "set[int] | None" = None) -> set[int]:
        """The layers to which her publisher's cap lowers what that subscriber receives, once it is one of those."""

        def capped(found: sub.Subscription) -> set[int]:
            return {term.quality for term in found.layer.terms if term.kind == sub.LAYER_TERM_KIND_PUBLISHER_CAP}

        found = await subscription(
            self.admin, self.room, who, self.sid, lambda found: holds is None or bool(capped(found) & holds)
        )
        return capped(found)

    async def free(self, who: str) -> None:
        """Waits until nothing caps it."""
        await subscription(
            self.admin,
            self.room,
            who,
            self.sid,
            lambda found: sub.LAYER_TERM_KIND_PUBLISHER_CAP not in {term.kind for term in found.layer.terms},
        )


@contextlib.asynccontextmanager
async def scene(track: TrackProcess, livekit: LiveKitProcess, room: str) -> AsyncIterator[Scene]:
    """See Scene."""
    async with (
        participant(livekit, room, "ann") as ann,
        participant(livekit, room, "bob"),
        participant(livekit, room, "eve"),
        camera(ann) as cam,
        track.client("admin", room_admin=True, room=room) as admin,
        track.client("ann", room_join=True, room=room) as herself,
    ):
        mic = await microphone(ann)
        await listed(admin, room, cam.sid)
        await listed(admin, room, mic.sid)
        async with events(admin, room) as stream, uplink(herself, room, mic.sid) as sound:
            yield Scene(admin, room, sound, cam.sid, stream)


@pytest.mark.deadline(240)
async def test_a_fault_of_the_publisher_is_acted_on_once_judged_and_taken_back_after_it(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with scene(track, livekit, room) as at:
        await set_policy(at.admin, room, quick(NETWORK, CAP))
        at.sound.loss = 0.3
        taken = await at.stream.until("quality_action_taken")
        assert (taken.kind, taken.participant_identity, taken.track_sid) == (CAP, "ann", "")
        assert (taken.move, taken.quality, taken.applied_by) == (DOWN, MEDIUM, "")
        assert "network_loss" in taken.reason or "severe_loss" in taken.reason
        assert taken.before.packets > taken.before.lost_packets > 0
        assert at.stream.seen[-1].event.cause.rule == "quality_policy"
        # Everybody who receives it has it, and nobody's own line is touched.
        for who in ("bob", "eve"):
            assert await at.caps(who, {LOW, MEDIUM})
        at.sound.loss = 0.0
        judged = await at.stream.until(
            "quality_action_judged", lambda found: found.verdict == pb.QUALITY_VERDICT_IMPROVED
        )
        assert judged.after.lost_packets / judged.after.packets < judged.before.lost_packets / judged.before.packets
        for who in ("bob", "eve"):
            await at.free(who)
        found = await actions(at.admin, room, lambda found: found[0].quality == HIGH)
        assert {(each.kind, each.participant_identity) for each in found} == {(CAP, "ann")}
        assert found[-1].action_id == taken.action_id
        assert pb.QUALITY_VERDICT_IMPROVED in {each.verdict for each in found}
        listing = await at.admin.ListAdaptations(pb.ListAdaptationsRequest(room=room))
        assert listing.effect.acted >= listing.effect.acted_improved >= 1
        assert not listing.effect.HasField("gain")


@pytest.mark.deadline(240)
async def test_limits_are_derived_anew_after_a_kill_and_released_with_their_policy(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with contextlib.AsyncExitStack() as stack:
        at = await stack.enter_async_context(scene(track, livekit, room))
        await set_policy(at.admin, room, quick(CAP, OFF))
        # Ann keeps a higher floor, and her camera an even higher one: the narrowest holds.
        await set_policy(at.admin, room, quick(CAP, floor=LOW), "ann")
        await set_policy(at.admin, room, quick(CAP, floor=MEDIUM), track_sid=at.sid)
        at.sound.loss = 0.3
        assert await at.caps("bob", {MEDIUM}) == {MEDIUM}
        before = await actions(at.admin, room, bool)
        await track.kill()
        await track.start()
        async with (
            track.client("ann", room_join=True, room=room) as herself,
            track.client("admin", room_admin=True, room=room) as admin,
            events(admin, room) as stream,
        ):
            at.admin, at.sound.client = admin, herself
            kept = {action.action_id for action in await actions(admin, room)}
            assert {action.action_id for action in before} <= kept
            anew = await stream.until("quality_action_taken")
            assert (anew.move, anew.kind, anew.quality) == (DOWN, CAP, MEDIUM)
            assert anew.action_id not in kept
            await at.caps("eve", {MEDIUM})
            for place in ({"track_sid": at.sid}, {"identity": "ann"}, {}):
                await delete_policy(admin, room, **place)
            released = await stream.until("quality_action_taken", lambda found: found.move == RELEASE)
            assert (released.reason, released.participant_identity, released.quality) == ("policy", "ann", HIGH)
            for who in ("bob", "eve"):
                await at.free(who)
