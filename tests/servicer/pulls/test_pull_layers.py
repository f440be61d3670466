"""PullMedia in a chosen simulcast layer: what is decoded, and what LiveKit's debug view says is sent."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.livekit_process import LiveKitProcess
from tests.publications import DATA, DEADLINE_S, TONE, pattern, publish
from tests.servicer.pulls import pulling as pull
from tests.servicer.pulls.pulling import FRAMES, MATROSKA, WAV
from tests.track_process import Client
from track.v1 import subscription_pb2 as sub
from track.v1 import track_pb2
from track_server.pulling.pulls import IDENTITY_PREFIX

LOW, MEDIUM, HIGH = track_pb2.VIDEO_QUALITY_LOW, track_pb2.VIDEO_QUALITY_MEDIUM, track_pb2.VIDEO_QUALITY_HIGH
SIZES = {LOW: (320, 180), MEDIUM: (640, 360), HIGH: (960, 540)}


async def layers_sent(livekit: LiveKitProcess, room: str, sid: str) -> list[int]:
    """Spatial layers that LiveKit sends to those who pull the track."""
    (entry,) = [entry for entry in await livekit.debug_rooms() if entry["Name"] == room]
    identities = {who["ID"]: name for name, who in entry["Participants"].items()}
    tracks = [who["UpTrackManager"]["PublishedTracks"].get(sid, {}) for who in entry["Participants"].values()]
    return [
        down.get("CurrentSpatialLayer", -1)
        for found in tracks
        for down in found.get("DownTracks") or []
        if identities.get(down["SubscriberID"], "").startswith(IDENTITY_PREFIX)
    ]


async def receives(
    client: Client,
    livekit: LiveKitProcess,
    room: str,
    sid: str,
    settings: sub.SubscriptionSettings | None,
    expected: tuple[tuple[int, int], int],
) -> None:
    """Waits until the size decoded and the layer sent are those, for ten pictures in a row."""
    async with pull.pulling(client, room, track_sid=sid, frames=FRAMES, settings=settings) as found:
        async with asyncio.timeout(DEADLINE_S):
            steady = 0
            while steady < 10:
                found.media.clear()
                await found.until(lambda had: bool(had.media))
                picture = found.media[-1].video
                # The session of the pull before may be there for a moment longer.
                layers = await layers_sent(livekit, room, sid)
                now = ((picture.width, picture.height), layers[0])
                steady = steady + 1 if len(layers) == 1 and now == expected else 0


async def test_the_layer_chosen_is_the_layer_pulled_by_quality_and_by_size(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    video = await publish(admin, room, pattern(960, 540, 15))
    sid = video.track_sid
    wanted = (
        (sub.SubscriptionSettings(quality=LOW), LOW),
        (sub.SubscriptionSettings(width=600, height=340), MEDIUM),
        (None, HIGH),
    )
    for settings, quality in wanted:
        await receives(admin, livekit, room, sid, settings, (SIZES[quality], quality - LOW))


async def test_a_container_has_the_size_of_the_layer(admin: Client, room: str) -> None:
    video = await publish(admin, room, pattern(960, 540, 15))
    settings = sub.SubscriptionSettings(quality=LOW)
    pulled = await pull.pulled(admin, room, 1, track_sid=video.track_sid, container=MATROSKA, settings=settings)
    pictures = pull.contents(pulled.data).pictures
    assert {(picture.width, picture.height) for picture in pictures} == {SIZES[LOW]}


async def test_a_layer_that_the_publisher_does_not_have_falls_back_as_asked(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    # One layer alone, which LiveKit calls LOW.
    video = await publish(admin, room, pattern(320, 180, 15))
    settings = sub.SubscriptionSettings(quality=HIGH)
    await receives(admin, livekit, room, video.track_sid, settings, (SIZES[LOW], 0))
    settings.fallback = sub.LAYER_FALLBACK_OFF
    refused = await pull.refusal_of(admin, room, track_sid=video.track_sid, frames=FRAMES, settings=settings)
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_SUPPORTED")
    assert refused.fields == ("settings",)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"enabled": True}, "settings.enabled"),
        ({"frames_per_second": 5}, "settings.frames_per_second"),
        ({"priority": 1}, "settings.priority"),
        ({"width": 320}, "settings"),
        ({"quality": LOW, "width": 320, "height": 180}, "settings"),
        ({"quality": track_pb2.VIDEO_QUALITY_OFF}, "settings.quality"),
    ],
)
async def test_settings_that_a_pull_has_no_use_for_are_refused(
    admin: Client, room: str, settings: dict[str, Any], field: str
) -> None:
    video = await publish(admin, room, pattern())
    asked = sub.SubscriptionSettings(**settings)
    refused = await pull.refusal_of(admin, room, track_sid=video.track_sid, frames=FRAMES, settings=asked)
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == (field,)


async def test_settings_for_sound_and_data_are_refused(admin: Client, room: str) -> None:
    tone, data = await asyncio.gather(publish(admin, room, TONE), publish(admin, room, DATA))
    low = sub.SubscriptionSettings(quality=LOW)
    for fields in ({"track_sid": tone.track_sid, "container": WAV}, {"track_sid": data.track_sid, "frames": FRAMES}):
        refused = await pull.refusal_of(admin, room, settings=low, **fields)
        assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("settings",))
