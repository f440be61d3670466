"""What goes together in a request to pull, and what a session is told of it."""

import pytest

from track.media.v1.media_service_pb2 import PullDesired
from track.v1 import pull_pb2 as pb
from track.v1 import track_pb2
from track_server.durations import duration_of
from track_server.errors import EncryptionKeyNeeded, InvalidField, InvalidOptions, NotForDataTracks
from track_server.pulling import wanted

AUDIO, VIDEO, DATA = track_pb2.TRACK_TYPE_AUDIO, track_pb2.TRACK_TYPE_VIDEO, track_pb2.TRACK_TYPE_DATA
WAV = pb.PullMediaRequest(container=pb.PULL_CONTAINER_WAV)
MATROSKA = pb.PullMediaRequest(container=pb.PULL_CONTAINER_MATROSKA)
FRAMES = pb.PullMediaRequest(frames=pb.PullFrames())
CAMERA = track_pb2.Track(sid="TR_v", type=VIDEO, width=1279, height=720)
MICROPHONE = track_pb2.Track(sid="TR_a", type=AUDIO, stereo=True)


@pytest.mark.parametrize(
    ("request_", "kind"),
    [(WAV, AUDIO), (MATROSKA, AUDIO), (MATROSKA, VIDEO), (FRAMES, AUDIO), (FRAMES, VIDEO), (FRAMES, DATA)],
)
def test_what_goes_together_is_not_refused(
    request_: pb.PullMediaRequest, kind: "track_pb2.TrackType.ValueType"
) -> None:
    wanted.refuse_contradictions(request_)
    wanted.refuse_format(request_, kind)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(NotForDataTracks):
        wanted.refuse_format(MATROSKA, DATA)
    with pytest.raises(InvalidOptions):
        wanted.refuse_format(WAV, VIDEO)
    with pytest.raises(InvalidField):
        wanted.refuse_contradictions(pb.PullMediaRequest(frames=pb.PullFrames(width=320)))
    with pytest.raises(InvalidOptions):
        wanted.refuse_contradictions(pb.PullMediaRequest(container=pb.PULL_CONTAINER_OGG, audio_track_sid="TR_a"))


def test_only_what_is_encrypted_needs_a_key() -> None:
    secret = track_pb2.Track(sid="TR_v", encryption=track_pb2.ENCRYPTION_GCM)
    with pytest.raises(EncryptionKeyNeeded):
        wanted.refuse_without_key(MATROSKA, secret)
    wanted.refuse_without_key(pb.PullMediaRequest(encryption_key=b"k"), secret)
    for encryption in (track_pb2.ENCRYPTION_NONE, track_pb2.ENCRYPTION_UNSPECIFIED):
        wanted.refuse_without_key(MATROSKA, track_pb2.Track(encryption=encryption))


def test_a_session_is_told_all_of_it_and_the_form_of_a_stream_stays() -> None:
    request = pb.PullMediaRequest(container=pb.PULL_CONTAINER_MATROSKA, max_duration=duration_of(1.5))
    first = wanted.desired(request, CAMERA, MICROPHONE)
    assert (first.track_sid, first.audio_track_sid, first.channels) == ("TR_v", "TR_a", 2)
    assert (first.width, first.height, first.max_duration_us) == (1278, 720, 1_500_000)
    smaller = track_pb2.Track(sid="TR_w", type=VIDEO, width=320, height=180)
    again = wanted.desired(request, smaller, None, first)
    assert (again.track_sid, again.audio_track_sid) == ("TR_w", "")
    assert (again.width, again.height, again.channels) == (1278, 720, 2)


def test_frames_of_sound_have_the_channels_that_are_asked_for() -> None:
    assert wanted.desired(FRAMES, MICROPHONE, None).channels == 1
    two = pb.PullMediaRequest(frames=pb.PullFrames(channels=2))
    told: PullDesired = wanted.desired(two, MICROPHONE, None)
    assert (told.channels, told.frames.channels) == (2, 2)
