"""Whether one more publication fits: every limit is kept to the last place, and what is taken is counted honestly."""

from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from track.v1 import access_pb2, track_pb2
from track.v1 import publication_pb2 as pb
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.config.limits import LimitSettings
from track_server.errors import LimitExceeded, PermissionDenied
from track_server.publishing.capacity import Capacity, bitrate_bps
from track_server.publishing.spec import complete

AUDIO, VIDEO, DATA = track_pb2.TRACK_TYPE_AUDIO, track_pb2.TRACK_TYPE_VIDEO, track_pb2.TRACK_TYPE_DATA
SCREEN = track_pb2.TRACK_SOURCE_SCREEN_SHARE
TONE = pb.PublicationSpec(tone=pb.ToneInput())


def video(width: int = 640, height: int = 360, bps: int = 1_000_000, **more: Any) -> pb.PublicationSpec:
    options = pb.VideoOptions(width=width, height=height, frames_per_second=30, max_bitrate_bps=bps)
    return complete(pb.PublicationSpec(test_pattern=pb.TestPatternInput(), video=options, **more), "PUB", None)


def publication(
    room: str = "a", identity: str = "host", asker: str = "op", spec: pb.PublicationSpec = TONE, of_room: str = "a"
) -> pb.Publication:
    creator = access_pb2.Principal(identity=asker, grants=access_pb2.Grants(room=of_room))
    kind = VIDEO if spec.HasField("test_pattern") else AUDIO
    return pb.Publication(room=room, participant_identity=identity, creator=creator, spec=spec, type=kind)


def track(identity: str, publication_id: str = "") -> track_pb2.Track:
    return track_pb2.Track(participant_identity=identity, publication_id=publication_id)


def refused(
    limits: LimitSettings, active: Sequence[pb.Publication], new: pb.Publication, tracks: Sequence[track_pb2.Track] = ()
) -> tuple[str, float, str]:
    with pytest.raises(LimitExceeded) as raised:
        Capacity(limits).admit(new, active, tracks, UNBOUNDED)
    return raised.value.limit, raised.value.value, raised.value.subject


def admitted(
    limits: LimitSettings, active: Sequence[pb.Publication], new: pb.Publication, tracks: Sequence[track_pb2.Track] = ()
) -> None:
    Capacity(limits).admit(new, active, tracks, UNBOUNDED)


@pytest.mark.parametrize(
    ("limit", "other", "subject"),
    [
        ("max_publications", publication(room="b", identity="x", asker="y"), "server"),
        ("max_publications_per_room", publication(identity="x", asker="y"), "room a"),
        ("max_publications_per_principal", publication(room="b", identity="x"), "principal op"),
        ("max_tracks_per_participant", publication(asker="y"), "participant host of room a"),
        ("max_tracks_per_room", publication(identity="x", asker="y"), "room a"),
    ],
)
def test_the_last_place_is_had_and_the_next_is_refused(limit: str, other: pb.Publication, subject: str) -> None:
    limits = LimitSettings(**{limit: 2})
    admitted(limits, [other], publication())
    assert refused(limits, [other, other], publication()) == (limit, 2, subject)


@pytest.mark.parametrize(
    ("limit", "other"),
    [
        ("max_publications_per_room", publication(room="b")),
        ("max_publications_per_principal", publication(asker="y")),
        # The same identity in another room is another principal.
        ("max_publications_per_principal", publication(of_room="b")),
        ("max_tracks_per_participant", publication(identity="x")),
        ("max_tracks_per_participant", publication(room="b")),
        ("max_tracks_per_room", publication(room="b")),
        ("max_participant_bitrate_bps", publication(identity="x", spec=video())),
        ("max_room_bitrate_bps", publication(room="b", spec=video())),
    ],
)
def test_others_do_not_count(limit: str, other: pb.Publication) -> None:
    limits = LimitSettings(**{limit: 100_000 if "bps" in limit else 1})
    admitted(limits, [other] * 5, publication())


def test_clients_tracks_count_in_the_room() -> None:
    limits = LimitSettings(max_tracks_per_room=3)
    admitted(limits, [publication()], publication(), [track("alice")])
    assert refused(limits, [publication()], publication(), [track("alice"), track("bob")])[0] == "max_tracks_per_room"


def test_a_publication_whose_track_is_in_the_room_counts_once() -> None:
    limits = LimitSettings(max_tracks_per_room=2)
    known, unbound = track("host", "PUB_1"), track("host")
    admitted(limits, [publication()], publication(), [known])
    admitted(limits, [publication()], publication(), [unbound])
    # Ended, and its track not gone yet.
    admitted(limits, [], publication(identity="x"), [known, known])


def test_bitrates_of_a_participant_and_of_a_room_are_added_up() -> None:
    new = publication(spec=video(bps=1_000_000))
    limits = LimitSettings(max_participant_bitrate_bps=3_000_000)
    admitted(limits, [new, new], new)
    assert refused(limits, [new, new, new], new) == (
        "max_participant_bitrate_bps",
        3_000_000,
        "participant host of room a",
    )
    other = publication(identity="x", spec=video(bps=1_000_000))
    room = LimitSettings(max_room_bitrate_bps=3_000_000)
    admitted(room, [new, other], new)
    assert refused(room, [new, other, other], new)[0] == "max_room_bitrate_bps"


# The layers that LiveKit's SDK declared for such tracks (rtc 1.2.1).
@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        (video(640, 360, 1_000_000), [1_000_000]),
        (video(1280, 720, 2_000_000), [160_000, 450_000, 2_000_000]),
        (video(720, 1280, 2_000_000), [160_000, 450_000, 2_000_000]),
        (video(1280, 800, 2_000_000), [160_000, 450_000, 2_000_000]),
        (video(1280, 860, 2_000_000), [100_000, 225_000, 2_000_000]),
        (video(1280, 960, 2_000_000), [100_000, 225_000, 2_000_000]),
        (video(1280, 720, 2_000_000, source=SCREEN), [150_000, 2_000_000]),
        (video(1280, 720, 20_000_000, source=SCREEN), [500_000, 20_000_000]),
    ],
)
def test_simulcast_counts_every_layer(spec: pb.PublicationSpec, layers: list[int]) -> None:
    assert bitrate_bps(spec, VIDEO) == sum(layers)


def test_redundant_audio_counts_twice_and_data_by_its_frames() -> None:
    audio = complete(TONE, "PUB", None)
    assert bitrate_bps(audio, AUDIO) == 96_000
    audio.audio.red = False
    assert bitrate_bps(audio, AUDIO) == 48_000
    frames = pb.PublicationSpec(data=pb.DataInput(frames_per_second=20, payload=b"x" * 100))
    assert bitrate_bps(complete(frames, "PUB", None), DATA) == 16_000


BIG = Struct()
BIG["text"] = "x" * 17_000


@pytest.mark.parametrize(
    ("spec", "kind", "limits", "limit", "field"),
    [
        (video(bps=1_000_001), VIDEO, {"max_track_bitrate_bps": 1_000_000}, None, "spec.video.max_bitrate_bps"),
        (
            complete(pb.PublicationSpec(tone=pb.ToneInput(), audio=pb.AudioOptions(max_bitrate_bps=64_000)), "P", None),
            AUDIO,
            {"max_track_bitrate_bps": 50_000},
            None,
            "spec.audio.max_bitrate_bps",
        ),
        (
            pb.PublicationSpec(data=pb.DataInput(frames_per_second=200, frame_bytes=65_536)),
            DATA,
            {},
            "max_track_bitrate_bps",
            "spec.data",
        ),
        (video(640, 362), VIDEO, {"max_video_pixels": 640 * 360}, None, "spec.video"),
        (pb.PublicationSpec(tone=pb.ToneInput(), metadata=BIG), AUDIO, {}, "max_metadata_bytes", "spec.metadata"),
    ],
)
def test_what_was_asked_for_beyond_a_tracks_limit_is_refused(
    spec: pb.PublicationSpec, kind: track_pb2.TrackType.ValueType, limits: dict[str, int], limit: str, field: str
) -> None:
    with pytest.raises(LimitExceeded) as raised:
        Capacity(LimitSettings(**limits)).check_track(spec, kind)
    assert raised.value.limit == (limit or next(iter(limits)))
    assert raised.value.field == field


@given(
    st.integers(6000, 5_000_000),
    st.integers(500, 4_000_000),
    st.sampled_from(
        [
            pb.PublicationSpec(test_pattern=pb.TestPatternInput()),
            TONE,
            pb.PublicationSpec(data=pb.DataInput(frame_bytes=1000)),
        ]
    ),
)
def test_what_was_left_open_is_chosen_within_the_limits(bps: int, pixels: int, spec: pb.PublicationSpec) -> None:
    capacity = Capacity(LimitSettings(max_track_bitrate_bps=bps, max_video_pixels=pixels))
    kind = VIDEO if spec.HasField("test_pattern") else AUDIO if spec.HasField("tone") else DATA
    capacity.check_track(complete(spec, "PUB", None, capacity.narrowed(UNBOUNDED), capacity.max_pixels), kind)


def test_the_callers_own_bound_of_tracks_is_a_denial() -> None:
    bounds = Bounds(max_tracks=2)
    Capacity(LimitSettings()).admit(publication(), [publication(), publication(identity="x")], (), bounds)
    with pytest.raises(PermissionDenied) as raised:
        Capacity(LimitSettings()).admit(publication(), [publication(), publication()], (), bounds)
    assert raised.value.metadata["bound"] == "max_tracks"


def test_each_limit_that_holds_is_told_with_how_it_is_kept() -> None:
    capacity = Capacity(LimitSettings(max_tracks_per_room=9))
    told = [(limit.name, limit.value, limit.enforcement) for limit in capacity.applied(publication(spec=video()))]
    assert ("max_tracks_per_room", 9, pb.LIMIT_ENFORCEMENT_ADMISSION) in told
    assert ("max_tracks_per_room", 9, pb.LIMIT_ENFORCEMENT_WATCHED) in told
    assert ("max_video_pixels", 3840 * 2160, pb.LIMIT_ENFORCEMENT_ENCODER) in told
    assert ("max_track_bitrate_bps", 20_000_000, pb.LIMIT_ENFORCEMENT_ENCODER) in told
    audio = {limit.name for limit in capacity.applied(publication())}
    assert "max_video_pixels" not in audio
    data = pb.Publication(type=DATA)
    (bitrate,) = [limit for limit in capacity.applied(data) if limit.name == "max_track_bitrate_bps"]
    assert bitrate.enforcement == pb.LIMIT_ENFORCEMENT_ADMISSION


def test_layers_that_were_asked_for_count_one_by_one() -> None:
    layers = [
        pb.VideoLayerOptions(width=320, height=180, max_bitrate_bps=100_000),
        pb.VideoLayerOptions(width=640, height=360, max_bitrate_bps=1_000_000),
    ]
    options = pb.VideoOptions(frames_per_second=30, layers=layers)
    device = pb.DeviceInput(kind=pb.DEVICE_KIND_CAMERA)
    assert bitrate_bps(complete(pb.PublicationSpec(device=device, video=options), "PUB", None), VIDEO) == 1_100_000


def test_layers_of_the_sdk_count_whether_asked_for_or_not() -> None:
    sizes = [pb.VideoLayerOptions(width=width, height=width * 9 // 16) for width in (320, 640, 1280)]
    asked = pb.PublicationSpec(test_pattern=pb.TestPatternInput(), video=pb.VideoOptions(layers=sizes))
    plain = complete(pb.PublicationSpec(test_pattern=pb.TestPatternInput()), "PUB", None)
    assert bitrate_bps(complete(asked, "PUB", None), VIDEO) == bitrate_bps(plain, VIDEO)


def test_stereo_counts_once_without_red() -> None:
    spec = pb.PublicationSpec(tone=pb.ToneInput(), audio=pb.AudioOptions(stereo=True))
    assert bitrate_bps(complete(spec, "PUB", None), AUDIO) == 96_000
