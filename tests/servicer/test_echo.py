"""Echo cancellation of what this service hosts: what a subscriber hears of it, and what the session hears for it."""

import asyncio
from collections.abc import Awaitable, Callable, Set

import grpc
import pytest
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import participants
from tests.media.viewer import DEADLINE_S, viewer
from tests.media.voices import voice
from tests.participants import camera, microphone, participant
from tests.publications import TONE, publish, unpublish, until
from tests.refusals import refusal
from tests.restrictions import clear, restrict, rule
from tests.servicer import loudspeaker
from tests.servicer.loudspeaker import Mouth, hearing, speaker
from tests.servicer.pushing import publish_push, push_spec, pushing
from tests.track_process import Client, TrackProcess
from tests.updates import IN_PLACE, update
from track.v1 import publication_pb2 as pb
from track.v1 import track_pb2
from track_server.livekit.debug import DebugView
from track_server.publishing.hearing import ear_of

ECHO = "audio.echo_cancellation"


def sound(*, echo: bool) -> pb.PublicationSpec:
    """Pushed sound."""
    spec = push_spec("pcm")
    spec.audio.dtx, spec.audio.echo_cancellation = False, echo
    return spec


class Ears:
    """What the hidden participants receive that hosted sessions hear with."""

    def __init__(self, livekit: LiveKitProcess, debug: DebugView, room: str) -> None:
        self._livekit, self._debug, self._room = livekit, debug, room

    async def there(self) -> set[str]:
        """Their identities."""
        hidden = await participants(self._livekit, self._room, hidden=True)
        return {found for found in hidden if found.startswith("track-ear-")}

    async def hear(self, identity: str, sids: Set[str]) -> None:
        """Waits until that of the session of ``identity`` is sent those tracks and no others."""
        ear = ear_of(self._room, identity)

        async def found() -> set[str]:
            copies = await self._debug.down_tracks(self._room)
            return {copy.track_sid for copy in copies if copy.subscriber_identity == ear and copy.bound}

        await _until(found, lambda heard: heard == sids)

    async def gone(self) -> None:
        """Waits until there are none."""
        await _until(self.there, lambda there: not there)


async def _until(look: Callable[[], Awaitable[set[str]]], condition: Callable[[set[str]], bool]) -> None:
    found: set[str] = set()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition(found := await look()):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(found) from None


async def test_the_room_is_taken_out_and_what_is_said_stays(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    far, near = Mouth(voice(20, 120, 1)), Mouth(voice(20, 210, 7))
    async with speaker(livekit, room, "far", far) as played, viewer(livekit, room, "player") as seen:
        publication = await publish_push(admin, room, sound(echo=False), "near")
        async with pushing(admin, publication) as pusher, loudspeaker.microphone(seen, played, 0.15, near, pusher):
            live = await until(admin, publication, lambda known: bool(known.track_sid))
            async with hearing(livekit, room, live.track_sid) as heard:
                near.open = True
                await heard.level(0.5)
                said = await heard.level(3)
                near.open, far.open = False, True
                await heard.level(0.5)
                echo = await heard.level(3)
                assert echo > said - 15, "there is an echo"
                answer = await update(admin, live, sound(echo=True), ECHO)
                assert answer.method == IN_PLACE
                await heard.until_below(echo - 15)
                near.open, far.open = True, False
                await heard.level(0.5)
                assert await heard.level(3) == pytest.approx(said, abs=4)
                near.open, far.open = False, True
                await update(admin, live, sound(echo=False), ECHO)
                await heard.until_above(echo - 3)
            assert (await until(admin, live, lambda known: True)).track_sid == live.track_sid


async def test_the_room_is_heard_while_it_is_asked_for_and_not_otherwise(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "bob", auto_subscribe=False) as bob,
        camera(bob),
        speaker(livekit, room, "far", Mouth(voice(1, 120, 1))) as far,
        DebugView(livekit.debug_url) as debug,
    ):
        ears = Ears(livekit, debug, room)
        tone = await publish(admin, room, TONE, "tone")
        await publish(admin, room, TONE, "near")
        publication = await publish_push(admin, room, sound(echo=False), "near")
        assert not await ears.there()
        await update(admin, publication, sound(echo=True), ECHO)
        await ears.hear("near", {far, tone.track_sid})
        assert await ears.there() == {ear_of(room, "near")}
        mine = await microphone(bob)
        await ears.hear("near", {far, tone.track_sid, mine.sid})
        await bob.local_participant.unpublish_track(mine.sid)
        await unpublish(admin, tone)
        await ears.hear("near", {far})
        await update(admin, publication, sound(echo=False), ECHO)
        await ears.gone()
        await update(admin, publication, sound(echo=True), ECHO)
        await ears.hear("near", {far})
        await unpublish(admin, publication)
        await ears.gone()


async def test_of_private_tracks_those_are_heard_that_the_participant_may_have(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        speaker(livekit, room, "far", Mouth(voice(1, 120, 1))) as far,
        DebugView(livekit.debug_url) as debug,
    ):
        ears = Ears(livekit, debug, room)
        tone = await publish(admin, room, TONE, "tone")
        secret = await publish(admin, room, TONE, "secret")
        await restrict(admin, room, rule("near"), publication_id=tone.publication_id)
        await restrict(admin, room, rule("somebody"), publication_id=secret.publication_id)
        await restrict(admin, room, rule("somebody"), track_sid=far)
        publication = await publish_push(admin, room, sound(echo=True), "near")
        await ears.hear("near", {tone.track_sid})
        await clear(admin, room, track_sid=far)
        await ears.hear("near", {tone.track_sid, far})
        await restrict(admin, room, rule("somebody", "near"), publication_id=secret.publication_id)
        await restrict(admin, room, rule(nobody=True), publication_id=tone.publication_id)
        await ears.hear("near", {far, secret.track_sid})
        await unpublish(admin, publication)


async def test_a_publisher_of_its_own_mind_is_heard_where_it_says_so(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "bob", auto_subscribe=False) as bob,
        speaker(livekit, room, "far", Mouth(voice(1, 120, 1))) as far,
        DebugView(livekit.debug_url) as debug,
    ):
        ears = Ears(livekit, debug, room)
        mine = await microphone(bob)
        bob.local_participant.set_track_subscription_permissions(allow_all_participants=False)
        publication = await publish_push(admin, room, sound(echo=True), "near")
        await ears.hear("near", {far})
        named = rtc.ParticipantTrackPermission(participant_identity=ear_of(room, "near"), allow_all=True)
        bob.local_participant.set_track_subscription_permissions(
            allow_all_participants=False, participant_permissions=[named]
        )
        await ears.hear("near", {far, mine.sid})
        await unpublish(admin, publication)


async def test_who_may_not_subscribe_hears_nothing_this_way_either(track: TrackProcess, room: str) -> None:
    grants = {"room_join": True, "room": room, "can_publish": True}
    request = pb.PublishTrackRequest(room=room, spec=sound(echo=True), create_room=True)
    async with track.client("deaf", can_subscribe=False, **grants) as deaf:
        refused = await refusal(deaf.PublishTrack(request, timeout=DEADLINE_S))
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        publication = await publish_push(deaf, room, sound(echo=False))
        refused = await refusal(update(deaf, publication, sound(echo=True), ECHO))
        assert refused.reason == "PERMISSION_DENIED"
        await unpublish(deaf, publication)
    async with track.client("hearing", can_subscribe=True, **grants) as hearing_one:
        publication = await publish_push(hearing_one, room, sound(echo=True))
        assert publication.spec.audio.echo_cancellation
        await update(hearing_one, publication, sound(echo=False), ECHO)
        await update(hearing_one, publication, sound(echo=True), ECHO)
        await unpublish(hearing_one, publication)


async def test_the_sound_of_a_file_may_be_an_echo_too(
    admin: Client, livekit: LiveKitProcess, room: str, clip: str
) -> None:
    file = pb.FileInput(uri=clip, type=track_pb2.TRACK_TYPE_AUDIO, loop=True)
    async with DebugView(livekit.debug_url) as debug, speaker(livekit, room, "far", Mouth(voice(1, 120, 1))) as far:
        spec = pb.PublicationSpec(file=file, audio=pb.AudioOptions(echo_cancellation=True))
        publication = await publish(admin, room, spec, "near")
        await Ears(livekit, debug, room).hear("near", {far})
        answer = await update(admin, publication, pb.PublicationSpec(audio=pb.AudioOptions()), ECHO)
        assert answer.method == IN_PLACE
        await Ears(livekit, debug, room).gone()
