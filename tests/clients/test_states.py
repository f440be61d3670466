"""What clients report over LiveKit: the Python companion by itself, and others who lie, flood and forge."""

import asyncio
import json
import time
from typing import Any

import pytest
from livekit import api, rtc

from tests.clients.apps import attached
from tests.clients.browser.test_receiving import hosted
from tests.clients.service import KEY, Service
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import Joined, camera, participant
from tests.states import DEADLINE_S, hearing
from tests.track_process import Client
from track.control.v1 import control_pb2 as control
from track.v1 import track_pb2
from track_server.control.signing import ControlKey
from track_server.deadline import Deadline
from track_server.livekit.debug import DebugView
from track_server.subscription.controller.client_layers import ABSENT
from track_server.subscription.states.message import Reader

TOPIC = "track.state.v1"


async def say(joined: rtc.Room, identity: str, payload: str | bytes, topic: str = TOPIC) -> None:
    """A data message to that participant."""
    await joined.local_participant.publish_data(payload, reliable=True, destination_identities=[identity], topic=topic)


async def test_the_python_companion_reports_what_it_decodes_and_what_its_app_says_and_obeys_layers(
    livekit: LiveKitProcess, admin: Client, room: str
) -> None:
    sid = await hosted(admin, room, 1280, 720)
    shown: dict[str, Any] = {"viewports": [{"trackSid": sid, "width": 640, "height": 360}]}
    overheard: list[str | None] = []
    async with (
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "eve") as eve,
        attached(alice, state=lambda: shown),
        hearing(livekit, room) as heard,
        DebugView(livekit.debug_url) as debug,
    ):
        eve.on("data_received", lambda packet: overheard.append(packet.topic))
        await heard.until(lambda: heard.size("alice", sid) == (1280, 720))
        assert heard.states.has_companion(room, "alice")
        assert {"vp8", "h264"} <= set(heard.of("alice").receive_codecs)
        assert heard.viewport("alice", sid).width == 640
        assert not heard.of("alice").HasField("downlink_bps")
        assert not heard.of("alice").HasField("cpu_load")
        shown["cpuLoad"] = 0.5
        shown["viewports"][0]["visible"] = False
        await heard.until(lambda: heard.of("alice").cpu_load == 0.5)
        assert not heard.viewport("alice", sid).visible
        target = heard.target("alice")
        wanted = control.ReceivedSettings(
            track_sid=sid, quality=track_pb2.VIDEO_QUALITY_LOW, enabled=True, frames_per_second=5, priority=7
        )
        unknown = control.ReceivedSettings(track_sid="TR_none", quality=track_pb2.VIDEO_QUALITY_LOW)
        missing = await heard.layers.apply(target, [wanted, unknown], Deadline.after(DEADLINE_S))
        # LiveKit's SDK for Python has nothing for these.
        assert missing == {
            (sid, "enabled"), (sid, "frames_per_second"), (sid, "priority"), ("TR_none", ABSENT)
        }  # fmt: skip
        await heard.until(lambda: heard.size("alice", sid) == (320, 180))
        (copy,) = [each for each in await debug.down_tracks(room) if each.subscriber_identity == "alice"]
        assert copy.spatial_layer == 0
        reset = control.ReceivedSettings(track_sid=sid, reset=True)
        assert not await heard.layers.apply(target, [reset], Deadline.after(DEADLINE_S))
        await heard.until(lambda: heard.size("alice", sid) == (1280, 720))
        # Nobody else sees what is reported, nor who takes it.
        assert overheard == []
        assert not any(identity.startswith("track-") for identity in eve.remote_participants)
        # One without a companion costs no inbox of its own, and is known to have none.
        assert heard.states.has_companion(room, "eve") is False


async def test_a_subscription_that_the_server_takes_away_is_reported_as_gone(
    livekit: LiveKitProcess, admin: Client, room: str
) -> None:
    sid = await hosted(admin, room, 640, 360)
    async with (
        participant(livekit, room, "alice") as alice,
        attached(alice),
        hearing(livekit, room) as heard,
        api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret) as server,
    ):
        await heard.until(lambda: heard.subscribed("alice", sid) is True)
        asked = api.UpdateSubscriptionsRequest(room=room, identity="alice", track_sids=[sid], subscribe=False)
        await server.room.update_subscriptions(asked)
        await heard.until(lambda: heard.subscribed("alice", sid) is False)
        asked.subscribe = True
        await server.room.update_subscriptions(asked)
        await heard.until(lambda: heard.subscribed("alice", sid) is True)


async def test_reports_go_on_after_the_inbox_was_thrown_out_of_the_room(
    livekit: LiveKitProcess, room: str, alice: Joined
) -> None:
    load: dict[str, Any] = {"cpuLoad": 0.25}
    async with attached(alice, state=lambda: load), hearing(livekit, room) as heard:
        await heard.until(lambda: heard.of("alice").cpu_load == 0.25)
        (inbox,) = heard.inboxes
        async with api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret) as admin:
            await admin.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=inbox.identity))
        async with asyncio.timeout(DEADLINE_S):
            await inbox.connected(after=1)
        load["cpuLoad"] = 0.5
        await heard.until(lambda: heard.of("alice").cpu_load == 0.5)


async def test_reports_are_heard_through_the_oldest_livekit(livekit_old: LiveKitProcess, room_name: str) -> None:
    load: dict[str, Any] = {"cpuLoad": 0.25}
    async with (
        existing_room(livekit_old, room_name),
        participant(livekit_old, room_name, "alice") as alice,
        attached(alice, state=lambda: load),
        hearing(livekit_old, room_name) as heard,
    ):
        await heard.until(lambda: heard.of("alice").cpu_load == 0.25)


async def test_a_room_without_a_companion_has_no_inbox_in_it(livekit: LiveKitProcess, room: str, alice: Joined) -> None:
    async with hearing(livekit, room) as heard:
        await heard.until(lambda: heard.states.has_companion(room, "alice") is False)
        (inbox,) = heard.inboxes
        assert inbox.connections == 0
        # Its app attaches one later.
        async with attached(alice):
            await heard.until(lambda: bool(heard.of("alice").receive_codecs))


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xfe", b"", b"[]", b"null", b'"state"', b"{" * 10_000, b'{"state": {"cpuLoad": "x"}}',
        b'{"state": {"cpuLoad": 7}}', b'{"state": {"downlinkBps": "-1"}}', b'{"state": {"cpuLoad": "NaN"}}',
        b'{"state": {"viewports": [{"trackSid": "x"}]}}',
        b'{"state": {"viewports": [{"trackSid": "TR_a", "width": 1}]}}',
        b'{"state": {"maxDecodeWidth": 640}}', b'{"received": [{"trackSid": "TR_a", "width": -4, "height": 3}]}',
        b'{"state": {"receiveCodecs": ["%s"]}}' % (b"x" * 40),
        b'{"state": {"cpuLoad": 0.7}, "x": "%s"}' % (b"y" * 16_000),
        b'{"state": ' + b'{"state": ' * 2000 + b"{}" + b"}" * 2001,
        *(
            b'{"stats": [{"trackSid": "TR_a", "measureTime": "2026-01-01T00:00:00Z", "streams": [%s]}]}' % stream
            for stream in (
                b"", b'{"jitterMs": "NaN"}', b'{"rttMs": "Infinity"}', b'{"audioLevel": 2}', b'{"packets": "-1"}',
                b'{"packets": 1.5}', b'{"totalFreezesDuration": "-1s"}', b'{"ssrc": 4294967296}', b"{}," * 16 + b"{}",
            )
        ),
        b'{"stats": [{"trackSid": "x", "measureTime": "2026-01-01T00:00:00Z", "streams": [{}]}]}',
        b'{"stats": [{"trackSid": "TR_a", "streams": [{}]}]}',
    ],
)  # fmt: skip
async def test_hostile_messages_are_dropped(payload: bytes) -> None:
    assert Reader().read(payload) is None


async def test_liars_say_nothing_of_others_nor_of_tracks_that_do_not_exist_and_floods_are_limited(
    livekit: LiveKitProcess, room: str, alice: Joined
) -> None:
    reports: list[float] = []
    async with (
        participant(livekit, room, "eve") as eve,
        participant(livekit, room, "bob") as bob,
        camera(bob) as cam,
        attached(alice),
        hearing(livekit, room) as heard,
    ):
        await heard.until(lambda: bool(heard.of("alice").receive_codecs))
        await heard.until(lambda: heard.states.has_companion(room, "eve") is False)
        (inbox,) = heard.inboxes
        lies = {
            "participantIdentity": "alice",
            "identity": "alice",
            "state": {
                "cpuLoad": 0.75,
                "viewports": [
                    {"trackSid": "TR_none", "visible": False},
                    {"trackSid": cam.sid, "visible": False},
                ],
            },
            "received": [{"trackSid": "TR_none", "subscribed": True}],
        }
        await say(eve, inbox.identity, json.dumps({"state": {"cpuLoad": 0.5}}), topic="another")
        await say(eve, inbox.identity, json.dumps(lies))
        await heard.until(lambda: heard.of("eve").cpu_load == 0.75)
        assert [each.track_sid for each in heard.of("eve").viewports] == [cam.sid]
        assert heard.states.received(room, "eve") == {}
        assert not heard.of("alice").HasField("cpu_load")
        heard.states.listen(lambda _, who: reports.append(time.monotonic()) if who == "eve" else None)
        begun = time.monotonic()
        for number in range(400):
            await say(eve, inbox.identity, json.dumps({"state": {"cpuLoad": number / 1000}}))
        # One after all of them is let in again, as soon as there is room.
        async with asyncio.timeout(DEADLINE_S):
            while heard.of("eve").cpu_load != 1.0:
                await say(eve, inbox.identity, json.dumps({"state": {"cpuLoad": 1.0}}))
                await asyncio.sleep(0.2)
        assert len(reports) < 80 + 15 * (time.monotonic() - begun)
        assert heard.live.current


async def test_forged_commands_to_report_are_refused(sender: Service, room: str, alice: Joined) -> None:
    report = control.ReportState(destination_identity="eve")
    async with attached(alice):
        reply = await sender.ask(alice, report, ControlKey(bytes(32)))
        assert reply.status == control.COMMAND_STATUS_FORGED
        assert (await sender.ask(alice, report, KEY)).status == control.COMMAND_STATUS_DONE
