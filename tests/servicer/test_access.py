"""Who may call what: every RPC for every kind of principal, from the permissions that the contract declares."""

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Set
from typing import Any, NamedTuple

import grpc
import jwt
import pytest
from livekit import api

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.servicer.commands import DATA, TONE, pattern, publish
from tests.servicer.principals import bearing
from tests.servicer.refusals import Refusal, read, refusal
from tests.servicer.test_bad_input import called, every_request
from tests.track_process import TrackProcess
from track.v1 import access_pb2, publication_pb2, server_info_pb2, track_service_pb2, tracks_pb2

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED

METHODS = track_service_pb2.DESCRIPTOR.services_by_name["TrackService"].methods
PERMISSIONS = {method.name: method.GetOptions().Extensions[access_pb2.access].permission for method in METHODS}

READ_SERVER = access_pb2.PERMISSION_READ_SERVER
READ = access_pb2.PERMISSION_READ_TRACKS
PUBLISH = access_pb2.PERMISSION_PUBLISH
MUTE = access_pb2.PERMISSION_MUTE
SUBSCRIBE = access_pb2.PERMISSION_SUBSCRIBE
ACTING = {"UnpublishTrack", "MuteTracks", "UnmuteTracks", "UpdateSubscriptions"}
EVERYTHING = {READ_SERVER, READ, PUBLISH, MUTE, SUBSCRIBE}


class Principal(NamedTuple):
    """A caller. ``token``: of the key, the secret and the room. ``may``: the permissions in the room, None: nobody."""

    token: Callable[[str, str, str], str | None]
    may: Set[int] | None


def granted(*, within: str = "", **grants: Any) -> Callable[[str, str, str], str]:
    """A token of alice's with those grants, for the room or for another."""

    def make(key: str, secret: str, room: str) -> str:
        token = api.AccessToken(key, secret).with_identity("alice")
        return token.with_grants(api.VideoGrants(room=within or room, **grants)).to_jwt()

    return make


def forged(**claims: Any) -> Callable[[str, str, str], str]:
    """An admin's token with other claims, header or secret."""

    def make(key: str, secret: str, room: str) -> str:
        now = int(time.time())
        body = {
            "iss": key,
            "sub": "alice",
            "exp": now + 600,
            "nbf": now - 600,
            "video": {"roomAdmin": True, "room": room},
        }
        body |= {name: now + value for name, value in claims.items() if name in ("exp", "nbf")}
        return jwt.encode(body, claims.get("secret", secret), algorithm="HS256")

    return make


def unsigned(key: str, secret: str, room: str) -> str:
    """An admin's token with `alg: none`."""
    now = int(time.time())
    parts = [
        {"alg": "none", "typ": "JWT"},
        {"iss": key, "sub": "alice", "exp": now + 600, "video": {"roomAdmin": True, "room": room}},
    ]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


PRINCIPALS = {
    "none": Principal(lambda *_: None, None),
    "malformed": Principal(lambda *_: "not.a.token", None),
    "expired": Principal(forged(exp=-3600), None),
    "not yet valid": Principal(forged(nbf=3600), None),
    "wrong secret": Principal(forged(secret="x" * 40), None),
    "wrong key": Principal(lambda key, secret, room: granted(room_admin=True)("APIother", secret, room), None),
    "alg none": Principal(unsigned, None),
    "no grants": Principal(granted(), {READ_SERVER}),
    "another room": Principal(granted(within="elsewhere", room_join=True, room_admin=True), {READ_SERVER}),
    "subscriber": Principal(
        granted(room_join=True, can_publish=False, can_publish_data=False), {READ_SERVER, READ, SUBSCRIBE}
    ),
    "publisher": Principal(granted(room_join=True), EVERYTHING),
    "deaf publisher": Principal(granted(room_join=True, can_subscribe=False), {READ_SERVER, READ, PUBLISH, MUTE}),
    "data publisher": Principal(
        granted(room_join=True, can_publish=False, can_publish_data=True, can_subscribe=False),
        {READ_SERVER, READ, PUBLISH, MUTE},
    ),
    "room admin": Principal(granted(room_admin=True), EVERYTHING),
    "service": Principal(granted(within="elsewhere", room_list=True), {READ_SERVER, READ}),
}


async def outcome(call: Any) -> Refusal | None:
    """How the call was refused; None where it was not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return read(error)
    return None


def test_every_rpc_declares_a_permission() -> None:
    assert set(PERMISSIONS.values()) == EVERYTHING
    assert set(PERMISSIONS) == {*every_request(room="r"), "GetServerInfo"}


@pytest.mark.parametrize("name", PRINCIPALS)
async def test_every_rpc_is_open_to_whom_its_permission_names(
    track: TrackProcess, livekit: LiveKitProcess, room: str, name: str
) -> None:
    principal = PRINCIPALS[name]
    token = principal.token(livekit.api_key, livekit.api_secret, room)
    # Of a data publisher and of a subscriber alike, what they ask for themselves is what they may.
    spec = DATA if name == "data publisher" else TONE
    requests = every_request(room=room) | {
        "GetServerInfo": server_info_pb2.GetServerInfoRequest(),
        "PublishTrack": publication_pb2.PublishTrackRequest(room=room, spec=spec),
    }
    async with bearing(track, token) as client:
        for rpc, permission in PERMISSIONS.items():
            refused = await outcome(called(client, rpc, requests[rpc]))
            if principal.may is None:
                assert refused is not None, rpc
                assert (refused.code, refused.reason) == (UNAUTHENTICATED, "UNAUTHENTICATED"), rpc
            elif permission not in principal.may:
                assert refused is not None, rpc
                assert (refused.code, refused.reason) == (DENIED, "PERMISSION_DENIED"), rpc
            elif rpc in ACTING and name != "room admin":
                # What does not exist is nobody's own: they are not told whether it does.
                assert refused is not None, rpc
                assert refused.code is DENIED, (rpc, refused)
            else:
                assert refused is None or refused.code not in (UNAUTHENTICATED, DENIED), (rpc, refused)


async def test_ones_own_and_others(track: TrackProcess, livekit: LiveKitProcess, room: str) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "bob") as bob,
        camera(alice) as cam,
        track.client("admin", room_admin=True, room=room) as admin,
    ):
        own, others = await microphone(alice), await microphone(bob)
        await until_listed(admin, room, {own.sid, others.sid, cam.sid})
        hosted = await publish(admin, room, DATA, "host")

        def mute(client: Any, sid: str) -> Any:
            return client.MuteTracks(
                tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=sid)]), timeout=20
            )

        def subscribe(client: Any, identity: str, sid: str) -> Any:
            update = tracks_pb2.SubscriptionUpdate(participant_identity=identity, track_sid=sid, subscribe=True)
            return client.UpdateSubscriptions(
                tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[update]), timeout=20
            )

        def publish_as(client: Any, identity: str, spec: publication_pb2.PublicationSpec) -> Any:
            request = publication_pb2.PublishTrackRequest(room=room, spec=spec, participant_identity=identity)
            return client.PublishTrack(request, timeout=20)

        async with track.client("alice", room_join=True, room=room) as client:
            assert (await mute(client, own.sid)).results[0].muted
            assert (await refusal(mute(client, others.sid))).code is DENIED
            assert (await subscribe(client, "alice", others.sid)).results[0].observed
            assert (await refusal(subscribe(client, "bob", own.sid))).code is DENIED
            assert (await refusal(publish_as(client, "carol", TONE))).code is DENIED
            unpublish = publication_pb2.UnpublishTrackRequest(room=room, publication_id=hosted.publication_id)
            assert (await refusal(client.UnpublishTrack(unpublish))).code is DENIED
            # In one batch: what is one's own is done, the rest is denied by item.
            refs = [tracks_pb2.TrackRef(track_sid=sid) for sid in (own.sid, others.sid)]
            mixed = await client.UnmuteTracks(tracks_pb2.UnmuteTracksRequest(room=room, tracks=refs), timeout=20)
            assert not mixed.results[0].muted
            assert not mixed.results[0].HasField("problem")
            assert mixed.results[1].problem.code == DENIED.value[0]
            # Nothing is told of a track that one may not act on.
            assert not mixed.results[1].HasField("muted")
        assert not others.muted

        sources = {"can_publish_sources": ["microphone"]}
        async with track.client("alice", room_join=True, room=room, **sources) as client:
            assert (await mute(client, own.sid)).results[0].muted
            assert (await refusal(mute(client, cam.sid))).code is DENIED
            assert (await refusal(publish_as(client, "alice", pattern()))).code is DENIED


async def test_a_publisher_of_some_sources_publishes_those(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    sources = {"can_publish_sources": ["microphone"], "can_publish_data": False}
    async with track.client("dora", room_join=True, room=room, **sources) as client:
        assert (await publish(client, room, TONE)).participant_identity == "dora"
        for spec in (pattern(), DATA):
            request = publication_pb2.PublishTrackRequest(room=room, spec=spec)
            assert (await refusal(client.PublishTrack(request))).code is DENIED
    listed = publication_pb2.ListPublicationsRequest(room=room)
    async with track.client("dora", room_join=True, room=room) as client:
        assert len((await client.ListPublications(listed)).publications) == 1


async def test_what_was_answered_to_one_is_not_handed_to_another(track: TrackProcess, room: str) -> None:
    request = publication_pb2.PublishTrackRequest(room=room, spec=TONE, request_id="same")
    grants = {"room_join": True, "room": room}
    async with track.client("eve", **grants) as eve, track.client("fay", **grants) as fay:
        first, second = await asyncio.gather(*(caller.PublishTrack(request, timeout=30) for caller in (eve, fay)))
    assert first.publication.participant_identity == "eve"
    assert second.publication.participant_identity == "fay"


async def test_without_authentication_everybody_may_everything(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    track = await start_track(livekit, {"TRACK_AUTH_MODE": "off", "TRACK_MEDIA_WORKERS": "0"})
    assert track.address.startswith("127.0.0.1:")
    async with bearing(track, None) as client:
        info = await client.GetServerInfo(server_info_pb2.GetServerInfoRequest())
        assert info.auth_mode == server_info_pb2.AUTH_MODE_OFF
        assert not (await client.ListTracks(tracks_pb2.ListTracksRequest(room=room))).tracks
    assert any("AUTH MODE IS OFF" in entry["event"] for entry in track.log())


def test_without_authentication_it_serves_loopback_only(livekit: LiveKitProcess) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "LIVEKIT_URL": livekit.url,
        "LIVEKIT_API_KEY": livekit.api_key,
        "LIVEKIT_API_SECRET": livekit.api_secret,
        "TRACK_AUTH_MODE": "off",
        "TRACK_LISTEN": "0.0.0.0:0",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "track_server", "serve"],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode != 0
    assert "TRACK_LISTEN" in ended.stderr
    assert "Traceback" not in ended.stderr


async def until_listed(client: Any, room: str, sids: set[str]) -> None:
    """Waits until the room shows the tracks."""
    async with asyncio.timeout(20):
        while True:
            answer = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room))
            if sids <= {found.sid for found in answer.tracks}:
                return
            await asyncio.sleep(0.05)
