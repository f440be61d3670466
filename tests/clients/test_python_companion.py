"""The companion for Python in a real room: what it does, and what its user is asked."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from livekit import rtc

import track_control
from tests.clients.apps import CAMERA, attached, grey_camera
from tests.clients.commands import ACCEPTED, DEADLINE_S, DONE, PLAN, own_tracks
from tests.clients.service import Service
from tests.livekit_process import LiveKitProcess
from tests.media.viewer import viewer
from tests.participants import Joined, camera, participant
from track.control.v1 import control_pb2 as control
from track.v1 import publication_pb2, publication_update_pb2, quality_pb2, track_pb2
from track.v1.quality_stats_pb2 import TrackStats


async def test_a_command_of_the_service_is_obeyed(sender: Service, alice: Joined) -> None:
    async with attached(alice):
        reply = await sender.ask(alice, control.GetCapabilities())
    assert reply.status == DONE
    able = reply.result.capabilities
    assert able.companion.startswith("python/")
    assert able.sdk.startswith("livekit-python/")
    assert able.signed
    assert list(able.devices) == [publication_pb2.DEVICE_KIND_CAMERA]
    fields = control.Command.DESCRIPTOR.oneofs_by_name["action"].fields
    assert set(able.actions) == {field.name for field in fields}


async def test_detached_it_does_not_answer(sender: Service, alice: Joined) -> None:
    async with attached(alice) as companion:
        await companion.aclose()
        with pytest.raises(Exception, match="could not be asked"):
            await sender.ask(alice, control.GetCapabilities())


# Consent.


async def test_a_question_to_the_user_is_acknowledged_at_once_and_asked_once(sender: Service, alice: Joined) -> None:
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    asked: list[track_control.Request] = []

    async def consent(request: track_control.Request) -> bool:
        asked.append(request)
        return await answer

    async with attached(alice, consent=consent):
        reply = await sender.ask(alice, control.Publish(publication_id="PUB_1", spec=CAMERA, restored=True))
        assert (reply.status, reply.consent) == (ACCEPTED, publication_pb2.CONSENT_ASKED)
        again = await sender.ask(alice, PLAN)
        assert (again.status, again.consent) == (ACCEPTED, publication_pb2.CONSENT_ASKED)
        answer.set_result(True)
        first = await sender.done(alice, control.GetResult(command_id=reply.command_id))
        second = await sender.done(alice, control.GetResult(command_id=again.command_id))
        assert (first.status, first.consent) == (DONE, publication_pb2.CONSENT_GRANTED)
        assert first.result == second.result
        assert own_tracks(alice) == [first.result.track_sid]
    assert [(request.action, request.fields["restored"]) for request in asked] == [("publish", True)]


async def test_refused_vetoed_and_not_answered_are_told_apart(sender: Service, alice: Joined) -> None:
    refused = (control.COMMAND_STATUS_REFUSED, publication_pb2.CONSENT_REFUSED)
    silent = (control.COMMAND_STATUS_NO_ANSWER, publication_pb2.CONSENT_NO_ANSWER)
    never = asyncio.get_running_loop().create_future()
    for options, expected in (
        ({"consent": lambda _: False}, refused),
        ({"veto": lambda request: request.action == "publish"}, refused),
        ({"consent": lambda _: never, "consent_timeout_s": 0.2}, silent),
    ):
        async with attached(alice, **options):
            reply = await sender.done(alice, PLAN)
            assert (reply.status, reply.consent) == expected
    assert not own_tracks(alice)


async def test_what_is_no_clear_yes_is_a_no(sender: Service, alice: Joined) -> None:
    def broken(_: track_control.Request) -> bool:
        raise OSError("the dialog is gone")

    refused, silent = control.COMMAND_STATUS_REFUSED, control.COMMAND_STATUS_NO_ANSWER
    given: list[tuple[dict[str, Any], int]] = [
        ({"consent": lambda _: "no"}, refused),
        ({"veto": lambda _: None}, refused),
        ({"consent": broken}, silent),
        ({"veto": broken}, silent),
    ]
    for options, expected in given:
        async with attached(alice, **options):
            assert (await sender.done(alice, PLAN)).status == expected
    assert not own_tracks(alice)


async def test_another_try_of_what_was_granted_asks_nobody_again(sender: Service, alice: Joined) -> None:
    asked: list[str] = []

    def consent(request: track_control.Request) -> bool:
        asked.append(request.action)
        return True

    async with grey_camera() as source:
        sources = [source]
        async with attached(alice, consent=consent, devices={"CAMERA": lambda _: sources.pop()}):
            sources.clear()
            assert (await sender.done(alice, PLAN)).status == control.COMMAND_STATUS_FAILED
            sources.append(source)
            assert (await sender.done(alice, PLAN)).status == DONE
            assert asked == ["publish"]
            # What is published anew, after it was taken away, is another matter.
            await sender.done(alice, control.Unpublish(publication_id="PUB_1"))
            sources.append(source)
            await sender.done(alice, PLAN)
            assert asked == ["publish", "publish"]


async def test_unmuting_is_asked_for_and_muting_is_not(sender: Service, alice: Joined) -> None:
    asked: list[str] = []

    def consent(request: track_control.Request) -> bool:
        asked.append(request.action)
        return request.action != "unmute"

    async with attached(alice, consent=consent):
        sid = (await sender.done(alice, PLAN)).result.track_sid
        published = alice.local_participant.track_publications[sid]
        assert (await sender.done(alice, control.SetMuted(track_sid=sid, muted=True))).status == DONE
        assert published.track is not None
        assert published.track.muted
        reply = await sender.done(alice, control.SetMuted(track_sid=sid, muted=False))
        assert reply.status == control.COMMAND_STATUS_REFUSED
        assert published.track.muted
    assert asked == ["publish", "unmute"]


async def test_a_publication_is_taken_back_while_the_user_is_asked(sender: Service, alice: Joined) -> None:
    answer = asyncio.get_running_loop().create_future()
    async with attached(alice, consent=lambda _: answer):
        reply = await sender.ask(alice, PLAN)
        assert reply.status == ACCEPTED
        assert (await sender.done(alice, control.Unpublish(publication_id="PUB_1"))).status == DONE
        taken_back = await sender.done(alice, control.GetResult(command_id=reply.command_id))
        assert taken_back.status == control.COMMAND_STATUS_FAILED
        assert answer.cancelled()
        assert not own_tracks(alice)


async def test_a_publication_is_taken_back_while_the_sdk_publishes_it(
    sender: Service, alice: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    published, go_on, publish = asyncio.Event(), asyncio.Event(), alice.local_participant.publish_track

    async def slow(*given: Any) -> rtc.LocalTrackPublication:
        made = await publish(*given)
        published.set()
        await go_on.wait()
        return made

    monkeypatch.setattr(alice.local_participant, "publish_track", slow)
    async with attached(alice), asyncio.timeout(DEADLINE_S):
        reply = await sender.ask(alice, PLAN)
        await published.wait()
        taking = await sender.ask(alice, control.Unpublish(publication_id="PUB_1"))
        go_on.set()
        assert (await sender.finished(alice, taking)).status == DONE
        assert (await sender.finished(alice, reply)).status == control.COMMAND_STATUS_FAILED
    assert not own_tracks(alice)


async def test_what_is_unpublished_while_it_is_made_anew_stays_away(
    sender: Service, alice: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with attached(alice), asyncio.timeout(DEADLINE_S):
        sid = (await sender.done(alice, PLAN)).result.track_sid
        begun, go_on, publish = asyncio.Event(), asyncio.Event(), alice.local_participant.publish_track

        async def slow(*given: Any) -> rtc.LocalTrackPublication:
            begun.set()
            await go_on.wait()
            return await publish(*given)

        monkeypatch.setattr(alice.local_participant, "publish_track", slow)
        level = publication_update_pb2.RESTART_LEVEL_REPUBLISH
        reply = await sender.ask(alice, control.Restart(track_sid=sid, level=level, graceful=True))
        await begun.wait()
        assert (await sender.done(alice, control.Unpublish(publication_id="PUB_1"))).status == DONE
        go_on.set()
        assert (await sender.finished(alice, reply)).status == control.COMMAND_STATUS_FAILED
    assert not own_tracks(alice)


async def test_one_companion_is_attached_at_a_time_and_the_next_knows_what_it_has_published(
    sender: Service, alice: Joined
) -> None:
    with pytest.raises(ValueError, match="connect the room first"):
        track_control.attach_track_control(rtc.Room(), unsigned=True)
    async with attached(alice):
        sid = (await sender.done(alice, PLAN)).result.track_sid
        with pytest.raises(ValueError, match="attached to the room already"):
            track_control.attach_track_control(alice, unsigned=True)
        assert (await sender.done(alice, control.GetCapabilities())).status == DONE
    async with attached(alice):
        assert (await sender.done(alice, PLAN)).result.track_sid == sid
        await sender.done(alice, control.Unpublish(publication_id="PUB_1"))
    assert not own_tracks(alice)


async def test_a_callback_that_breaks_fails_the_command(sender: Service, alice: Joined) -> None:
    def broken(_: object) -> rtc.VideoSource:
        raise OSError("the camera is unplugged")

    async with attached(alice, devices={"CAMERA": broken}):
        reply = await sender.done(alice, PLAN)
        assert reply.status == control.COMMAND_STATUS_FAILED
        assert "unplugged" in reply.detail


# What it does.


async def test_a_track_is_published_muted_updated_restarted_and_unpublished(
    livekit: LiveKitProcess, room: str, sender: Service, alice: Joined
) -> None:
    plan = control.Publish(publication_id="PUB_1", spec=PLAN.spec, muted=True)
    plan.spec.name = "front"
    plan.spec.video.degradation_preference = publication_pb2.DEGRADATION_PREFERENCE_MAINTAIN_RESOLUTION
    async with viewer(livekit, room) as seen, attached(alice):
        sid = (await sender.done(alice, plan)).result.track_sid
        remote = await seen.publication_of(sid)
        assert (remote.name, remote.muted, remote.source) == ("front", True, rtc.TrackSource.SOURCE_CAMERA)
        for graceful in (True, False):
            restart = control.Restart(
                track_sid=sid, level=publication_update_pb2.RESTART_LEVEL_REPUBLISH, graceful=graceful
            )
            anew = (await sender.done(alice, restart)).result.track_sid
            assert anew not in ("", sid)
            await seen.gone(sid)
            sid = anew
        assert (await seen.publication_of(sid)).muted
        # The same again is no change.
        update = control.Update(track_sid=sid, publish=plan)
        assert (await sender.done(alice, update)).result.track_sid == sid
        update.publish.spec.name = "back"
        sid = (await sender.done(alice, update)).result.track_sid
        assert (await seen.publication_of(sid)).name == "back"
        assert own_tracks(alice) == [sid]
        assert (await sender.done(alice, control.Unpublish(track_sid=sid))).status == DONE
        await seen.gone(sid)
        assert (await sender.done(alice, control.Unpublish(track_sid=sid))).status == control.COMMAND_STATUS_NOT_FOUND


async def test_what_the_sdk_cannot_do_is_unsupported(sender: Service, alice: Joined) -> None:
    unsupported = control.COMMAND_STATUS_UNSUPPORTED
    layered, silent, wide, named = control.Publish(), control.Publish(), control.Publish(), control.Publish()
    for plan in (layered, silent, wide, named):
        plan.CopyFrom(PLAN)
    layered.spec.video.layers.add(width=160, height=90)
    silent.spec.audio.noise_suppression = True
    wide.spec.audio.stereo = True
    named.spec.device.kind = publication_pb2.DEVICE_KIND_APP_VIDEO
    named.spec.device.device = "slides"
    async with attached(alice):
        for plan in (layered, silent, wide, named):
            assert (await sender.done(alice, plan)).status == unsupported
        sid = (await sender.done(alice, PLAN)).result.track_sid
        keyframe = control.Restart(track_sid=sid, level=publication_update_pb2.RESTART_LEVEL_KEYFRAME)
        assert (await sender.done(alice, keyframe)).status == unsupported
        assert own_tracks(alice) == [sid]


async def test_how_tracks_of_others_are_received_is_set(
    livekit: LiveKitProcess, room: str, sender: Service, alice: Joined
) -> None:
    async with participant(livekit, room, "bob") as bob, camera(bob) as cam, attached(alice):
        async with asyncio.timeout(DEADLINE_S):
            while not (received := alice.remote_participants.get("bob")) or cam.sid not in received.track_publications:
                await asyncio.sleep(0.05)
        remote = received.track_publications[cam.sid]
        async with asyncio.timeout(DEADLINE_S):
            while not remote.subscribed:  # by itself: what is asked while the SDK is at it may be lost
                await asyncio.sleep(0.05)
        for subscribed in (False, True):
            settings = control.ReceivedSettings(track_sid=cam.sid, subscribed=subscribed)
            assert (await sender.done(alice, control.SetReceived(tracks=[settings]))).status == DONE
            async with asyncio.timeout(DEADLINE_S):
                while remote.subscribed != subscribed:
                    await asyncio.sleep(0.05)
        settings = control.ReceivedSettings(
            track_sid=cam.sid, quality=track_pb2.VIDEO_QUALITY_LOW, width=320, height=180, priority=1
        )
        reply = await sender.done(alice, control.SetReceived(tracks=[settings]))
        # The camera has one layer, so there is none to choose.
        expected = {f"{cam.sid}.{name}" for name in ("quality", "width", "height", "priority")}
        assert set(reply.result.unsupported) == expected
        resubscribe = control.Restart(track_sid=cam.sid, level=publication_update_pb2.RESTART_LEVEL_RESUBSCRIBE)
        assert (await sender.done(alice, resubscribe)).status == DONE
        unknown = control.SetReceived(tracks=[control.ReceivedSettings(track_sid="TR_none", subscribed=True)])
        assert (await sender.done(alice, unknown)).result.unsupported == ["TR_none.track_sid"]


async def test_statistics_are_told_of_what_is_sent_and_received(
    livekit: LiveKitProcess, room: str, sender: Service, alice: Joined
) -> None:
    async with participant(livekit, room, "bob") as bob, camera(bob) as cam, attached(alice):
        sid = (await sender.done(alice, PLAN)).result.track_sid
        found: dict[str, TrackStats] = {}
        async with asyncio.timeout(DEADLINE_S):
            while not (
                any(stream.frames for stream in found.get(sid, TrackStats()).streams)
                and any(stream.frames for stream in found.get(cam.sid, TrackStats()).streams)
            ):
                reply = await sender.done(alice, control.GetStats())
                found = {stats.track_sid: stats for stats in reply.result.stats}
        assert found[sid].sent
        assert not found[cam.sid].sent
        assert found[sid].streams[0].packets > 0
        assert found[cam.sid].streams[0].bytes > 0
        assert found[sid].streams[0].quality_limitation != quality_pb2.QUALITY_LIMITATION_UNSPECIFIED
        only = await sender.done(alice, control.GetStats(track_sids=[cam.sid]))
        assert [stats.track_sid for stats in only.result.stats] == [cam.sid]


# The contract.


def _names(message: Descriptor, known: set[str]) -> set[str]:
    if message.full_name not in known:
        known.add(message.full_name)
        for field in message.fields:
            known.add(field.json_name)
            if field.message_type is not None:
                _names(field.message_type, known)
    return known


async def test_what_may_be_sent_is_known_of_what_the_service_publishes_and_of_nothing_else(
    sender: Service, alice: Joined
) -> None:
    plan = control.Publish()
    plan.CopyFrom(PLAN)
    plan.spec.video.max_bitrate_bps = 200_000
    async with attached(alice) as companion:
        assert companion._tracks._most_bps() == 0
        await sender.done(alice, plan)
        assert companion._tracks._most_bps() == 200_000
        plan.publication_id, plan.spec.video.simulcast = "PUB_2", True
        await sender.done(alice, plan)
        assert companion._tracks._most_bps() == 2 * 200_000 + 610_000
        async with camera(alice):
            assert companion._tracks._most_bps() == float("inf")


def test_the_client_reads_and_writes_the_names_of_the_contract() -> None:
    known: set[str] = set()
    for message in (control.SignedCommand, control.Command, control.Reply, control.StateReport):
        _names(message.DESCRIPTOR, known)
    _names(rtc.TrackPublishOptions.DESCRIPTOR, known)  # what the SDK is given is proto JSON, too
    folder = Path(track_control.__file__).parent
    source = "\n".join(path.read_text() for path in folder.glob("*.py"))
    read = re.findall(r"""(?:\.get\(|\[|\{|, |case )"([a-z]+[A-Z][A-Za-z]+|[a-z]{3,})"[\]):,]""", source)
    others = {"mute", "unmute", "opus", "rtc"}
    assert {"commandId", "participantSid", "publicationId", "trackSid"} <= set(read)
    assert set(read) - known - others == set()
    enums = {value for name in ("COMMAND_STATUS_", "CONSENT_") for value in re.findall(rf'"({name}[A-Z_]+)"', source)}
    values = set(control.CommandStatus.keys()) | set(publication_pb2.Consent.keys())
    assert enums - values - {"CONSENT_"} == set()
    statuses = re.findall(r'Refusal\("([A-Z_]+)"', source)
    assert {f"COMMAND_STATUS_{status}" for status in statuses} <= set(control.CommandStatus.keys())
