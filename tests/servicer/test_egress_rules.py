"""Recordings by rule: of what is there, of what comes, once a track, over ends of the server, and when it fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest_asyncio

from tests.conftest import StartTrack
from tests.egresses import (
    ACTIVE,
    COMPLETE,
    DEADLINE_S,
    FAILED,
    WAITING,
    EgressCluster,
    egress_cluster,
    get,
    listed,
    stop,
    to_file,
    until_state,
)
from tests.encrypted import KEY, viewer
from tests.participants import camera, microphone, participant
from tests.publications import until_listed
from tests.refusals import refusal
from tests.streams import events
from tests.track_process import Client
from track.v1 import egress_pb2 as pb
from track.v1 import event_pb2

MICROPHONES = "track.source == TrackSource.TRACK_SOURCE_MICROPHONE"
OUTPUT = to_file("recordings/{room_name}/{track_id}.ogg")


@pytest_asyncio.fixture
async def own_cluster(tmp_path: Path) -> AsyncIterator[EgressCluster]:
    """A cluster of this test alone."""
    async with egress_cluster(tmp_path, TRACK_MEDIA_WORKERS="0") as running:
        yield running


async def set_rule(
    client: Client, room: str, name: str = "mics", expression: str = MICROPHONES, output: pb.EgressOutput = OUTPUT
) -> pb.EgressRule:
    rule = pb.EgressRule(name=name, filter=expression, output=output)
    answer = await client.SetEgressRule(pb.SetEgressRuleRequest(room=room, rule=rule), timeout=DEADLINE_S)
    found: pb.EgressRule = answer.rule
    return found


async def delete_rule(client: Client, room: str, name: str = "mics") -> pb.EgressRule:
    answer = await client.DeleteEgressRule(pb.DeleteEgressRuleRequest(room=room, name=name), timeout=DEADLINE_S)
    found: pb.EgressRule = answer.rule
    return found


async def until_recorded(client: Client, room: str, *sids: str) -> dict[str, pb.TrackEgress]:
    """Waits until these tracks are recorded; all recordings of the room, by track."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = {egress.track_sid: egress for egress in await listed(client, room)}
            if all(sid in found and found[sid].state == ACTIVE for sid in sids):
                return found
            await asyncio.sleep(0.05)


async def test_what_matches_is_recorded_once(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        there = await microphone(alice)
        data = await alice.local_participant.publish_data_track(name="d")
        await until_listed(client, room_name, there.sid, data.info.sid)
        asked = len(cluster.worker.asked())
        async with events(client, room_name) as stream, camera(alice):
            await stream.snapshot()
            rule = await set_rule(client, room_name, expression="true && track.type == TrackType.TRACK_TYPE_AUDIO")
            changed = await stream.until("policy_changed")
            assert (changed.kind, changed.name, changed.removed) == (event_pb2.POLICY_KIND_EGRESS_RULE, "mics", False)
            await until_recorded(client, room_name, there.sid)
            later = await microphone(alice, "later")
            found = await until_recorded(client, room_name, there.sid, later.sid)
            assert set(found) == {there.sid, later.sid}
            # The same rule once more records nothing once more, and what it was stopped for stays stopped.
            await stop(client, found[there.sid])
            assert (await get(client, found[there.sid])).state == COMPLETE
            third = await microphone(alice, "third")
            found = await until_recorded(client, room_name, later.sid, third.sid)
            egress = found[later.sid]
            assert (egress.rule_name, egress.rule_for_all_rooms, egress.creator_identity) == ("mics", False, "recorder")
            assert egress.parts[0].path == f"recordings/{room_name}/{later.sid}.ogg"
            moved = await stream.until("egress_moved", lambda moved: moved.track_sid == third.sid)
            assert moved.rule_name == "mics"
            assert stream.seen[-1].event.cause.rule == "egress_rule"
            request = pb.ListEgressRulesRequest(room=room_name)
            assert list((await client.ListEgressRules(request)).rules) == [rule]
            assert await delete_rule(client, room_name) == rule
            assert (await stream.until("policy_changed")).removed
        assert not (await client.ListEgressRules(pb.ListEgressRulesRequest(room=room_name))).rules
        # What it began goes on; what comes is recorded no more.
        await microphone(alice, "fourth")
        assert (await get(client, found[later.sid])).state == ACTIVE
        for sid in (later.sid, third.sid):
            await stop(client, found[sid])
        assert len(cluster.worker.asked()) == asked + 3
        assert len(await listed(client, room_name)) == 3


async def test_a_rule_that_is_set_anew_records_what_had_ended(
    cluster_with_egress: EgressCluster, room_name: str
) -> None:
    cluster = cluster_with_egress
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        await set_rule(client, room_name)
        first = (await until_recorded(client, room_name, mic.sid))[mic.sid]
        await stop(client, first)
        await set_rule(client, room_name, output=to_file("recordings/{track_id}-again.ogg"))
        async with asyncio.timeout(DEADLINE_S):
            while len(found := await listed(client, room_name)) < 2:
                await asyncio.sleep(0.05)
        await delete_rule(client, room_name)
        second = await until_state(client, found[0], ACTIVE)
        assert second.parts[0].path == f"recordings/{mic.sid}-again.ogg"
        await stop(client, second)


async def test_rules_outlive_the_server_and_wait_for_rooms(own_cluster: EgressCluster, room_name: str) -> None:
    cluster = own_cluster
    async with cluster.recorder(room_name) as client:
        await set_rule(client, room_name)
    await cluster.track.kill()
    async with participant(cluster.livekit, room_name, "alice") as alice:
        mic = await microphone(alice)
        await cluster.track.start()
        async with cluster.recorder(room_name) as client:
            found = (await until_recorded(client, room_name, mic.sid))[mic.sid]
            await cluster.track.kill()
            await cluster.track.start()
        async with cluster.recorder(room_name) as client:
            later = await microphone(alice, "later")
            await until_recorded(client, room_name, mic.sid, later.sid)
            assert len(await listed(client, room_name)) == 2
            await stop(client, found)
    assert len(cluster.worker.asked()) == 2


async def test_a_rule_for_all_rooms(own_cluster: EgressCluster, room_name: str) -> None:
    cluster = own_cluster
    other = f"{room_name}-other"
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        client = await enter(cluster.recorder(room_name))
        refused = await refusal(set_rule(client, "", "all"))
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED
        everywhere = await enter(cluster.track.client("boss", room_record=True, room_create=True, room_list=True))
        rule = await set_rule(everywhere, "", "all")
        assert rule.room == ""
        for name in (room_name, other):
            mic = await microphone(await enter(participant(cluster.livekit, name, "alice")))
            found = (await until_recorded(everywhere, name, mic.sid))[mic.sid]
            assert (found.rule_name, found.rule_for_all_rooms) == ("all", True)
        own = await set_rule(client, room_name, "all", "false")
        shown = await client.ListEgressRules(pb.ListEgressRulesRequest(room=room_name))
        assert list(shown.rules) == [rule, own]
        await delete_rule(everywhere, "", "all")
        assert list((await client.ListEgressRules(pb.ListEgressRulesRequest(room=room_name))).rules) == [own]


async def test_a_rule_goes_on_trying_where_no_egress_is_and_says_so(
    cluster_with_egress: EgressCluster, start_track: StartTrack, room_name: str
) -> None:
    cluster = cluster_with_egress
    track = await start_track(cluster.livekit, {"TRACK_EGRESS_START_SECONDS": "1", "TRACK_MEDIA_WORKERS": "0"})
    async with (
        participant(cluster.livekit, room_name, "alice") as alice,
        cluster.recorder(room_name, track) as client,
    ):
        mic = await microphone(alice)
        await cluster.worker.mode("decline")
        await set_rule(client, room_name)
        async with asyncio.timeout(DEADLINE_S):
            while not (found := await listed(client, room_name)) or found[0].state != WAITING:
                await asyncio.sleep(0.05)
        (waiting,) = found
        assert waiting.problem.message
        assert waiting.HasField("next_try_time")
        assert not waiting.parts
        await cluster.worker.mode()
        egress = (await until_recorded(client, room_name, mic.sid))[mic.sid]
        assert egress.egress_id == waiting.egress_id
        assert not egress.HasField("problem")
        # One that fails is tried again in the same recording.
        await cluster.worker.update(egress.parts[0].livekit_egress_id, status="EGRESS_FAILED", error="disk full")
        egress = await until_state(client, egress, WAITING)
        assert "disk full" in egress.problem.message
        egress = await until_state(client, egress, ACTIVE)
        assert [part.livekit_status for part in egress.parts] == ["EGRESS_FAILED", "EGRESS_ACTIVE"]
        assert len(await listed(client, room_name)) == 1
        await delete_rule(client, room_name)
        await stop(client, egress)


async def test_an_encrypted_track_that_matches_has_failed(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with viewer(cluster.livekit, room_name, "eve", KEY) as eve, cluster.recorder(room_name) as client:
        await microphone(eve.room)
        await set_rule(client, room_name)
        async with asyncio.timeout(DEADLINE_S):
            while not (found := await listed(client, room_name)):
                await asyncio.sleep(0.05)
        await delete_rule(client, room_name)
        assert (len(found), found[0].state, found[0].problem.reason) == (1, FAILED, 55)


async def test_rules_that_are_none(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    async with cluster.recorder(room_name) as client:
        found = [
            await refusal(set_rule(client, room_name, output=to_file("recordings/a.ogg"))),
            await refusal(set_rule(client, room_name, output=to_file("elsewhere/{track_id}"))),
            await refusal(set_rule(client, room_name, expression="track.nothing == 1")),
            await refusal(set_rule(client, room_name, expression="track.sid")),
            await refusal(set_rule(client, room_name, expression=" ")),
            await refusal(set_rule(client, room_name, name="a b")),
            await refusal(delete_rule(client, room_name, "unknown")),
            await refusal(
                client.SetEgressRule(
                    pb.SetEgressRuleRequest(
                        room=room_name, rule=pb.EgressRule(room="other", name="a", filter="true", output=OUTPUT)
                    )
                )
            ),
        ]
        assert [(refused.reason, refused.fields) for refused in found] == [
            ("INVALID_FIELD", ("rule.output.file.filepath",)),
            ("DESTINATION_NOT_ALLOWED", ("rule.output.file.filepath",)),
            ("INVALID_EXPRESSION", ("rule.filter",)),
            ("INVALID_EXPRESSION", ("rule.filter",)),
            ("INVALID_EXPRESSION", ("rule.filter",)),
            ("INVALID_FIELD", ("rule.name",)),
            ("EGRESS_RULE_NOT_FOUND", ("name",)),
            ("INVALID_FIELD", ("rule.room",)),
        ]
        request = pb.SetEgressRuleRequest(
            room=room_name, rule=pb.EgressRule(name="a", filter="true", output=OUTPUT), validate_only=True
        )
        assert (await client.SetEgressRule(request)).rule.creator_identity == "recorder"
        assert not (await client.ListEgressRules(pb.ListEgressRulesRequest(room=room_name))).rules


async def test_the_keys_of_a_rule_are_shown_to_nobody(cluster_with_egress: EgressCluster, room_name: str) -> None:
    cluster = cluster_with_egress
    storage = pb.S3Storage(bucket="tapes", access_key="AKIA", secret="the-secret-of-a-rule")
    async with participant(cluster.livekit, room_name, "alice") as alice, cluster.recorder(room_name) as client:
        mic = await microphone(alice)
        rule = await set_rule(client, room_name, output=to_file("{track_id}.ogg", s3=storage))
        found = (await until_recorded(client, room_name, mic.sid))[mic.sid]
        shown = await client.ListEgressRules(pb.ListEgressRulesRequest(room=room_name))
        removed = await delete_rule(client, room_name)
        ended = await stop(client, found)
        assert all("the-secret" not in str(text) for text in (rule, found, shown, removed, ended))
        assert any("the-secret-of-a-rule" in str(request) for request in cluster.worker.asked())
        assert "the-secret" not in cluster.track.log_path.read_text()
