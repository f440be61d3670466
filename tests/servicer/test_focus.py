"""Focus: set, shown, told, cleared; kept over a restart and not over the end of its room."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import pytest_asyncio
from livekit import rtc

from tests.conftest import StartTrack
from tests.focuses import ON_STAGE, PINNED, SCREEN, clear_focus, focused, get_focus, in_focus, set_focus, single, whole
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, existing_room
from tests.participants import Joined, microphone, participant
from tests.publications import DEADLINE_S, LIVE, TONE, publish, until
from tests.refusals import refusal
from tests.servicer.records import record
from tests.servicer.restarting import REPUBLISH, restart
from tests.streams import events
from tests.track_process import Client, TrackProcess
from track.v1 import subscription_pb2 as pb
from track.v1 import track_pb2

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
LOW = track_pb2.VIDEO_QUALITY_LOW


@dataclass
class Scene:
    """A room with ann, bob and cid, each with a microphone; their SIDs."""

    room: str
    ann: str
    bob: str
    cid: str
    guests: dict[str, Joined]


@pytest_asyncio.fixture
async def scene(livekit: LiveKitProcess, room: str) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        guests, sids = {}, {}
        for name in ("ann", "bob", "cid"):
            guests[name] = await stack.enter_async_context(participant(livekit, room, name, auto_subscribe=False))
            sids[name] = (await microphone(guests[name])).sid
            await guests[name].announced(sids[name])
        yield Scene(room, **sids, guests=guests)


async def test_a_focus_is_set_shown_told_and_cleared(admin: Client, scene: Scene) -> None:
    room = scene.room
    async with events(admin, room) as seen:
        assert not (await seen.snapshot()).focuses
        kept = await set_focus(
            admin, room, pinned=[single(scene.bob)], on_stage=[whole("ann"), whole("zoe")], last_speakers=2
        )
        assert (kept.room, kept.participant_identity, kept.last_speakers) == (room, "", 2)
        assert kept.HasField("update_time")
        assert not kept.HasField("others")
        # What is pinned is in focus at once.
        shown = await get_focus(admin, room)
        assert shown.focus == kept
        assert [track.track_sid for track in shown.tracks] == [scene.bob, scene.ann]
        assert focused(shown.tracks) == [("bob", PINNED, 95), ("ann", ON_STAGE, 85)]
        told = await seen.until("focus_changed")
        assert told.focus == kept
        assert focused(told.tracks) == focused(shown.tracks)
        assert seen.seen[-1].event.cause.principal_identity == "admin"

        # A subscriber without one of its own has the room's, its own tracks left out.
        shown = await get_focus(admin, room, "bob")
        assert shown.focus == kept
        assert focused(shown.tracks) == [("ann", ON_STAGE, 85)]
        own = await set_focus(admin, room, "bob", pinned=[whole("cid")])
        assert (await get_focus(admin, room, "bob")).focus == own
        told = await seen.until("focus_changed", lambda change: change.focus.participant_identity == "bob")
        # What goes out of focus does so 2 s later.
        assert focused(told.tracks) == [("cid", PINNED, 95), ("ann", ON_STAGE, 85)]
        told = await seen.until("focus_changed", lambda change: len(change.tracks) == 1)
        assert focused(told.tracks) == [("cid", PINNED, 95)]
        assert (told.focus, seen.seen[-1].event.HasField("cause")) == (own, False)
        async with events(admin, room) as later:
            assert list((await later.snapshot()).focuses) == [kept, own]

        cleared = await clear_focus(admin, room, "bob")
        assert cleared.focus == own
        told = await seen.until("focus_changed", lambda change: not change.focus.HasField("update_time"))
        assert (told.focus.room, told.focus.participant_identity, len(told.tracks)) == (room, "bob", 0)
        assert seen.seen[-1].event.cause.principal_identity == "admin"
        assert (await get_focus(admin, room, "bob")).focus == kept
        assert not (await clear_focus(admin, room, "bob")).HasField("focus")
        await clear_focus(admin, room)
        refused = await refusal(get_focus(admin, room))
        assert (refused.code, refused.reason) == (NOT_FOUND, "FOCUS_NOT_FOUND")
        assert (await refusal(get_focus(admin, room, "bob"))).reason == "FOCUS_NOT_FOUND"
    rows = [row for row in await record(admin, room) if row.method.endswith("Focus")]
    assert sorted(row.method.rpartition("/")[2] for row in rows) == ["ClearFocus"] * 3 + ["SetFocus"] * 2


async def test_what_comes_and_goes_moves_the_focus(admin: Client, livekit: LiveKitProcess, scene: Scene) -> None:
    room = scene.room
    await set_focus(admin, room, screen_share_first=True, pinned=[whole("dan"), whole("ann")])
    assert focused((await get_focus(admin, room)).tracks) == [("ann", PINNED, 94)]
    async with participant(livekit, room, "dan", auto_subscribe=False) as dan:
        await microphone(dan)
        await in_focus(admin, room, lambda found: found == [("dan", PINNED, 95), ("ann", PINNED, 94)])
        share = rtc.LocalAudioTrack.create_audio_track("share", rtc.AudioSource(48000, 1))
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO)
        shared = await scene.guests["cid"].local_participant.publish_track(share, options)
        await in_focus(admin, room, lambda found: found[0] == ("cid", SCREEN, 100))
        await scene.guests["cid"].local_participant.unpublish_track(shared.sid)
        await in_focus(admin, room, lambda found: found == [("dan", PINNED, 95), ("ann", PINNED, 94)])
    await in_focus(admin, room, lambda found: found == [("ann", PINNED, 94)])


async def test_a_track_that_is_published_anew_stays_pinned(admin: Client, scene: Scene) -> None:
    room, bob = scene.room, scene.guests["bob"]
    await set_focus(admin, room, pinned=[single(scene.bob)], last_speakers=1)
    # Others of his are not it, however alike, that are there beside it, nor one of another name that comes later.
    beside = await microphone(bob)
    await bob.announced(beside.sid)
    await bob.local_participant.unpublish_track(scene.bob)
    await in_focus(admin, room, lambda found: not found)
    second = await microphone(bob, "second")
    await bob.announced(second.sid)
    assert (await get_focus(admin, room)).focus.pinned[0].track_sid == scene.bob
    again = await microphone(bob)
    answer = await in_focus(admin, room, lambda found: found == [("bob", PINNED, 95)])
    assert [target.track_sid for target in answer.focus.pinned] == [again.sid]
    assert [track.track_sid for track in answer.tracks] == [again.sid]


async def test_a_hosted_track_stays_pinned_over_its_restart(restarter: Client, room: str) -> None:
    first = await publish(restarter, room, TONE, identity="host")
    await set_focus(restarter, room, pinned=[single(first.track_sid)])
    await restart(restarter, first, REPUBLISH)
    again = await until(restarter, first, lambda found: found.state == LIVE and found.track_sid != first.track_sid)
    answer = await in_focus(restarter, room, lambda found: found == [("host", PINNED, 95)])
    async with asyncio.timeout(DEADLINE_S):
        while [track.track_sid for track in answer.tracks] != [again.track_sid]:
            await asyncio.sleep(0.1)
            answer = await get_focus(restarter, room)
    assert [target.track_sid for target in answer.focus.pinned] == [again.track_sid]


REFUSED: Final[list[tuple[str, dict[str, Any], str, str]]] = [
    ("", {}, "INVALID_FIELD", "focus"),
    ("", {"others": {}}, "INVALID_FIELD", "focus"),
    ("", {"pinned": [whole("ann"), whole("ann")]}, "INVALID_FIELD", "focus.pinned[1].participant_identity"),
    (
        "",
        {"pinned": [single("ann")], "on_stage": [whole("zoe"), single("ann")]},
        "INVALID_FIELD",
        "focus.on_stage[1].track_sid",
    ),
    ("", {"pinned": [whole("ann")], "on_stage": [single("ann")]}, "INVALID_FIELD", "focus.on_stage[0].track_sid"),
    ("ann", {"pinned": [whole("bob"), whole("ann")]}, "INVALID_OPTIONS", "focus.pinned[1].participant_identity"),
    ("ann", {"on_stage": [single("ann")]}, "INVALID_OPTIONS", "focus.on_stage[0].track_sid"),
    ("", {"pinned": [single("TR_none")]}, "TRACK_NOT_FOUND", "focus.pinned[0].track_sid"),
    ("", {"pinned": [single("DTR_data")]}, "INVALID_FIELD", "focus.pinned[0].track_sid"),
    ("", {"pinned": [pb.FocusTarget()]}, "INVALID_FIELD", "focus.pinned[0].target"),
    ("", {"last_speakers": 26}, "INVALID_FIELD", "focus.last_speakers"),
    ("", {"last_speakers": 1, "others": {"priority": 3}}, "INVALID_OPTIONS", "focus.others.priority"),
    ("", {"last_speakers": 1, "others": {"enabled": False, "quality": LOW}}, "INVALID_OPTIONS", "focus.others.quality"),
    ("", {"last_speakers": 1, "others": {"width": 3}}, "INVALID_FIELD", "focus.others"),
    ("", {"last_speakers": 1, "room": "x"}, "INVALID_FIELD", "focus.room"),
    ("bob", {"last_speakers": 1, "participant_identity": "ann"}, "INVALID_FIELD", "focus.participant_identity"),
]
"""Of a subscriber, or the room's: what is refused, the reason, and the field. `ann` is the SID of her track."""


async def test_a_focus_that_cannot_be_meant_is_refused(admin: Client, scene: Scene) -> None:
    def real(target: pb.FocusTarget) -> pb.FocusTarget:
        return single(scene.ann) if target.track_sid == "ann" else target

    for identity, focus, reason, field in REFUSED:
        given: dict[str, Any] = {
            name: [real(each) for each in value] if isinstance(value, list) else value for name, value in focus.items()
        }
        request = pb.SetFocusRequest(room=scene.room, participant_identity=identity, focus=pb.Focus(**given))
        refused = await refusal(admin.SetFocus(request, timeout=45))
        code = NOT_FOUND if reason == "TRACK_NOT_FOUND" else INVALID
        assert (refused.code, refused.reason, refused.fields) == (code, reason, (field,)), focus
        assert (await refusal(get_focus(admin, scene.room, identity))).reason == "FOCUS_NOT_FOUND"


async def test_what_is_meant_is_not_taken_for_a_contradiction(
    admin: Client, livekit: LiveKitProcess, scene: Scene, room_name: str
) -> None:
    room = scene.room
    # One track first, then the rest of its participant.
    await set_focus(admin, room, pinned=[single(scene.ann), whole("ann")])
    assert focused((await get_focus(admin, room)).tracks) == [("ann", PINNED, 95)]
    # Nothing is in focus: all is received as the others.
    await set_focus(admin, room, others={"enabled": False})
    # Of somebody who comes later.
    await set_focus(admin, room, "eve", pinned=[whole("bob")])
    await in_focus(admin, room, lambda found: found == [("bob", PINNED, 95)], "eve")
    # A track of another room is none of this one.
    async with existing_room(livekit, f"{room}-2"), participant(livekit, f"{room}-2", "ann") as elsewhere:
        sid = (await microphone(elsewhere)).sid
        refused = await refusal(set_focus(admin, room, pinned=[single(sid)]))
        assert (refused.reason, refused.fields) == ("TRACK_NOT_FOUND", ("focus.pinned[0].track_sid",))


async def test_a_room_that_is_not_there_has_no_focus(admin: Client, room_name: str) -> None:
    for call in (
        set_focus(admin, room_name, last_speakers=1),
        get_focus(admin, room_name),
        clear_focus(admin, room_name),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason, refused.fields) == (NOT_FOUND, "ROOM_NOT_FOUND", ("room",))


async def test_a_participant_chooses_for_itself_alone(track: TrackProcess, scene: Scene) -> None:
    room = scene.room
    async with track.client("ann", room_join=True, room=room) as ann:
        kept = await set_focus(ann, room, "ann", pinned=[whole("bob")])
        assert (await get_focus(ann, room, "ann")).focus == kept
        for call in (
            set_focus(ann, room, pinned=[whole("bob")]),
            set_focus(ann, room, "bob", pinned=[whole("cid")]),
            clear_focus(ann, room),
            clear_focus(ann, room, "bob"),
        ):
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        assert (await clear_focus(ann, room, "ann")).focus == kept
    async with track.client("ann", room_join=True, room=room, can_subscribe=False) as ann:
        refused = await refusal(set_focus(ann, room, "ann", pinned=[whole("bob")]))
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED


async def test_validate_only_checks_and_does_nothing(admin: Client, scene: Scene) -> None:
    room = scene.room
    would = await set_focus(admin, room, "bob", pinned=[whole("ann")], validate_only=True)
    assert (would.room, would.participant_identity, would.HasField("update_time")) == (room, "bob", False)
    assert (await refusal(get_focus(admin, room, "bob"))).reason == "FOCUS_NOT_FOUND"
    refused = await refusal(set_focus(admin, room, validate_only=True))
    assert (refused.reason, refused.fields) == ("INVALID_FIELD", ("focus",))
    kept = await set_focus(admin, room, pinned=[whole("ann")])
    assert (await clear_focus(admin, room, validate_only=True)).focus == kept
    assert (await get_focus(admin, room)).focus == kept


async def test_a_restart_keeps_a_focus_and_the_end_of_the_room_ends_it(
    livekit: LiveKitProcess, start_track: StartTrack, room_name: str
) -> None:
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0", "TRACK_MAX_FOCUSES_PER_ROOM": "2"})
    async with (
        existing_room(livekit, room_name),
        participant(livekit, room_name, "ann") as ann,
    ):
        sid = (await microphone(ann)).sid
        await ann.announced(sid)
        async with track.client("admin", room_admin=True, room=room_name) as client:
            kept = await set_focus(client, room_name, pinned=[single(sid)], others={"quality": LOW})
            own = await set_focus(client, room_name, "bob", on_stage=[whole("ann")])
            refused = await refusal(set_focus(client, room_name, "cid", on_stage=[whole("ann")]))
            assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
            assert refused.quota == ("max_focuses_per_room", 2, f"room {room_name}")
        await track.kill()
        await track.start()
        async with track.client("admin", room_admin=True, room=room_name) as client:
            shown = await get_focus(client, room_name)
            assert (shown.focus, focused(shown.tracks)) == (kept, [("ann", PINNED, 95)])
            shown = await get_focus(client, room_name, "bob")
            assert (shown.focus, focused(shown.tracks)) == (own, [("ann", ON_STAGE, 85)])
            async with events(client, room_name) as seen:
                assert list((await seen.snapshot()).focuses) == [kept, own]
                await delete_room(livekit, room_name)
                await seen.until("room_closed")
    async with existing_room(livekit, room_name), track.client("admin", room_admin=True, room=room_name) as client:
        assert (await refusal(get_focus(client, room_name))).reason == "FOCUS_NOT_FOUND"
        assert (await refusal(get_focus(client, room_name, "bob"))).reason == "FOCUS_NOT_FOUND"
