"""What a hosted session hears of a room: all that others sound, as far as its participant may have it."""

import pytest

from track.v1 import track_pb2 as pb
from track_server.publishing.hearing import audible, ear_of

NEAR = pb.Participant(identity="near")


def track(sid: str, identity: str = "far", **fields: object) -> pb.Track:
    return pb.Track(**{"sid": sid, "participant_identity": identity, "type": pb.TRACK_TYPE_AUDIO, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tracks", "key", "heard"),
    [
        ([], False, []),
        ([track("TR_2"), track("TR_1", "other", source=pb.TRACK_SOURCE_SCREEN_SHARE_AUDIO)], False, ["TR_1", "TR_2"]),
        ([track("TR_1", muted=True)], False, ["TR_1"]),
        ([track("TR_1", "near")], False, []),
        ([track("TR_1", type=pb.TRACK_TYPE_VIDEO), track("DTR_1", type=pb.TRACK_TYPE_DATA)], False, []),
        ([track("TR_1", encryption=pb.ENCRYPTION_GCM), track("TR_2", encryption=pb.ENCRYPTION_NONE)], False, ["TR_2"]),
        ([track("TR_1", encryption=pb.ENCRYPTION_GCM), track("TR_2")], True, ["TR_1", "TR_2"]),
    ],
)
def test_the_sound_of_others_is_heard(tracks: list[pb.Track], key: bool, heard: list[str]) -> None:
    assert audible(tracks, NEAR, lambda *_: True, key=key) == heard


def test_nothing_is_heard_that_the_participant_may_not_have() -> None:
    asked: list[tuple[str, str]] = []

    def may_have(found: pb.Track, subscriber: pb.Participant) -> bool:
        asked.append((found.sid, subscriber.identity))
        return found.sid == "TR_2"

    assert audible([track("TR_1"), track("TR_2")], NEAR, may_have, key=True) == ["TR_2"]
    assert asked == [("TR_1", "near"), ("TR_2", "near")]


def test_each_session_has_an_ear_of_its_own() -> None:
    ears = {ear_of(room, identity) for room in ("a", "ab") for identity in ("c", "bc")}
    assert len(ears) == 4
    assert all(ear.startswith("track-ear-") for ear in ears)
