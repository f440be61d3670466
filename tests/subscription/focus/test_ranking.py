"""Which tracks a focus puts first, with what rank and priority."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from track.v1.subscription_pb2 import (
    FOCUS_RANK_ON_STAGE,
    FOCUS_RANK_PINNED,
    FOCUS_RANK_SCREEN_SHARE,
    FOCUS_RANK_SPEAKER,
    Focus,
    FocusTarget,
)
from track.v1.track_pb2 import (
    TRACK_SOURCE_CAMERA,
    TRACK_SOURCE_MICROPHONE,
    TRACK_SOURCE_SCREEN_SHARE,
    TRACK_SOURCE_SCREEN_SHARE_AUDIO,
    TRACK_TYPE_AUDIO,
    TRACK_TYPE_DATA,
    TRACK_TYPE_VIDEO,
    Track,
)
from track_server.subscription.focus.ranking import Scene, focused, levels, scene_of

PEOPLE = ("ann", "bob", "cid", "dot")


def people(*speakers: str, sharing: Sequence[str] = ()) -> Scene:
    """Each of PEOPLE with a camera and a microphone (`TR_VCann`, `TR_AMann`), those who share with a screen and its
    sound (`TR_VSann`, `TR_ASann`)."""
    tracks = []
    for who in PEOPLE:
        tracks.append(
            Track(sid=f"TR_VC{who}", participant_identity=who, type=TRACK_TYPE_VIDEO, source=TRACK_SOURCE_CAMERA)
        )
        tracks.append(
            Track(sid=f"TR_AM{who}", participant_identity=who, type=TRACK_TYPE_AUDIO, source=TRACK_SOURCE_MICROPHONE)
        )
        tracks.append(Track(sid=f"DTR_{who}", participant_identity=who, type=TRACK_TYPE_DATA))
    for who in sharing:
        tracks.append(
            Track(sid=f"TR_VS{who}", participant_identity=who, type=TRACK_TYPE_VIDEO, source=TRACK_SOURCE_SCREEN_SHARE)
        )
        tracks.append(
            Track(
                sid=f"TR_AS{who}",
                participant_identity=who,
                type=TRACK_TYPE_AUDIO,
                source=TRACK_SOURCE_SCREEN_SHARE_AUDIO,
            )
        )
    return scene_of(tracks, speakers)


def whole(*identities: str) -> list[FocusTarget]:
    return [FocusTarget(participant_identity=identity) for identity in identities]


def single(*sids: str) -> list[FocusTarget]:
    return [FocusTarget(track_sid=sid) for sid in sids]


def shown(focus: Focus, scene: Scene, viewer: str = "") -> list[tuple[str, int, int]]:
    """SID, rank and priority, first to last."""
    found = levels(focus, scene, viewer)
    order = sorted(found, key=lambda sid: (-found[sid], sid))
    return [(sid, focused(found[sid]).rank, focused(found[sid]).priority) for sid in order]


def test_ranks_come_one_after_the_other() -> None:
    focus = Focus(
        pinned=[*single("TR_VCbob"), *whole("ann")], on_stage=whole("bob"), last_speakers=1, screen_share_first=True
    )
    assert shown(focus, people("cid", "dot", sharing=["dot"])) == [
        ("TR_ASdot", FOCUS_RANK_SCREEN_SHARE, 100),
        ("TR_VSdot", FOCUS_RANK_SCREEN_SHARE, 100),
        ("TR_VCbob", FOCUS_RANK_PINNED, 95),
        ("TR_AMann", FOCUS_RANK_PINNED, 94),
        ("TR_VCann", FOCUS_RANK_PINNED, 94),
        ("TR_AMbob", FOCUS_RANK_ON_STAGE, 85),
        ("TR_AMcid", FOCUS_RANK_SPEAKER, 75),
        ("TR_VCcid", FOCUS_RANK_SPEAKER, 75),
    ]


def test_a_screen_share_is_a_track_like_others_where_it_does_not_go_first() -> None:
    assert levels(Focus(pinned=whole("ann")), people(sharing=["bob"])).keys() == {"TR_VCann", "TR_AMann"}
    found = shown(Focus(last_speakers=1), people("bob", sharing=["bob"]))
    assert [(sid, rank) for sid, rank, _ in found] == [
        (sid, FOCUS_RANK_SPEAKER) for sid in ("TR_AMbob", "TR_ASbob", "TR_VCbob", "TR_VSbob")
    ]


@pytest.mark.parametrize(
    ("most", "viewer", "expected"),
    [
        (0, "", []),
        (1, "", ["cid"]),
        (2, "", ["cid", "ann"]),
        (3, "cid", ["ann", "bob"]),
        (1, "cid", ["ann"]),
        (25, "", ["cid", "ann", "bob"]),
    ],
)
def test_the_last_speakers_are_those_that_the_viewer_hears(most: int, viewer: str, expected: list[str]) -> None:
    # Zoe has left.
    scene = people("zoe", "cid", "ann", "bob")
    found = shown(Focus(last_speakers=most), scene, viewer)
    assert [sid.removeprefix("TR_VC") for sid, _, _ in found if sid.startswith("TR_VC")] == expected
    assert [priority for _, _, priority in found] == sorted([75 - i for i in range(len(expected))] * 2, reverse=True)


def test_who_is_pinned_counts_among_the_speakers() -> None:
    focus = Focus(pinned=whole("ann"), last_speakers=1)
    assert levels(focus, people("ann", "bob")).keys() == {"TR_VCann", "TR_AMann"}


def test_what_is_not_there_keeps_its_place() -> None:
    focus = Focus(pinned=[*whole("zoe"), *single("TR_gone"), *whole("ann")])
    assert {priority for _, _, priority in shown(focus, people())} == {93}


def test_places_beyond_the_tenth_keep_their_order_and_share_a_priority() -> None:
    tracks = [Track(sid=f"TR_{n:02}", participant_identity="ann", type=TRACK_TYPE_VIDEO) for n in range(50)]
    sids = [f"TR_{n:02}" for n in reversed(range(50))]
    found = shown(Focus(on_stage=single(*sids)), scene_of(tracks, ()))
    assert [sid for sid, _, _ in found] == sids
    assert [priority for _, _, priority in found] == [*range(85, 76, -1), *[76] * 41]


@given(
    st.lists(st.sampled_from([*PEOPLE, "zoe"]), max_size=8),
    st.lists(st.sampled_from([*PEOPLE, "zoe"]), max_size=8),
    st.lists(st.sampled_from([*PEOPLE, "zoe"]), unique=True),
    st.integers(0, 25),
    st.booleans(),
    st.sampled_from(["", *PEOPLE]),
)
def test_nobody_has_itself_in_focus_and_priorities_are_in_the_range_of_their_rank(
    pinned: list[str], on_stage: list[str], speakers: list[str], most: int, screens: bool, viewer: str
) -> None:
    focus = Focus(pinned=whole(*pinned), on_stage=whole(*on_stage), last_speakers=most, screen_share_first=screens)
    scene = people(*speakers, sharing=["bob"])
    ranges = {1: (100, 100), 2: (86, 95), 3: (76, 85), 4: (66, 75)}
    for sid, rank, priority in shown(focus, scene, viewer):
        assert scene.publishers[sid] != viewer
        low, high = ranges[rank]
        assert low <= priority <= high
