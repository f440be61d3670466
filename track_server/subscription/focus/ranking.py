"""Which tracks a focus puts first. Pure: a focus and who is there in, a level for each track out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from track.v1.subscription_pb2 import (
    FOCUS_RANK_ON_STAGE,
    FOCUS_RANK_PINNED,
    FOCUS_RANK_SCREEN_SHARE,
    FOCUS_RANK_SPEAKER,
    Focus,
    FocusTarget,
)
from track.v1.track_pb2 import TRACK_SOURCE_SCREEN_SHARE, TRACK_SOURCE_SCREEN_SHARE_AUDIO, TRACK_TYPE_DATA, Track
from track_server.subscription.focus.view import Focused

# A level is the thousands of its rank, less the place in it (0 the first): more than the 50 targets that there may be.
_STEP: Final = 1000
# By the thousands: the rank, and the priority of its first place. Ten places count; those beyond share the last.
_RANKS: Final = {
    4: (FOCUS_RANK_SCREEN_SHARE, 100),
    3: (FOCUS_RANK_PINNED, 95),
    2: (FOCUS_RANK_ON_STAGE, 85),
    1: (FOCUS_RANK_SPEAKER, 75),
}
_LAST_PLACE: Final = 9
_SCREENS: Final = (TRACK_SOURCE_SCREEN_SHARE, TRACK_SOURCE_SCREEN_SHARE_AUDIO)


@dataclass(frozen=True, slots=True)
class Scene:
    """Who is there: the media tracks by publisher and by SID, and who spoke last (see Speaking)."""

    tracks: Mapping[str, Sequence[str]]
    publishers: Mapping[str, str]
    screens: Sequence[str]
    speakers: Sequence[str]


EMPTY: Final = Scene({}, {}, (), ())


def scene_of(tracks: Iterable[Track], speakers: Sequence[str]) -> Scene:
    """What of those tracks matters here."""
    by_publisher: dict[str, list[str]] = {}
    publishers: dict[str, str] = {}
    screens: list[str] = []
    for track in sorted(tracks, key=lambda track: track.sid):
        if track.type != TRACK_TYPE_DATA:
            by_publisher.setdefault(track.participant_identity, []).append(track.sid)
            publishers[track.sid] = track.participant_identity
            if track.source in _SCREENS:
                screens.append(track.sid)
    return Scene(by_publisher, publishers, screens, speakers)


def levels(focus: Focus, scene: Scene, viewer: str = "") -> dict[str, int]:
    """The level of each track in focus, by SID: the higher, the more important; see ``focused``.

    ``viewer``: the subscriber, whose own tracks and speech are left out; empty: one that publishes nothing.
    """
    found: dict[str, int] = {}

    def rank(thousands: int, place: int, sids: Iterable[str]) -> None:
        for sid in sids:
            if scene.publishers[sid] != viewer:
                found.setdefault(sid, thousands * _STEP - place)

    if focus.screen_share_first:
        rank(4, 0, scene.screens)
    for place, target in enumerate(focus.pinned):
        rank(3, place, tracks_of(target, scene))
    for place, target in enumerate(focus.on_stage):
        rank(2, place, tracks_of(target, scene))
    there = [who for who in scene.speakers if who != viewer and who in scene.tracks]
    for place, who in enumerate(there[: focus.last_speakers]):
        rank(1, place, scene.tracks[who])
    return found


def tracks_of(target: FocusTarget, scene: Scene) -> Sequence[str]:
    """SIDs of what it names and is there."""
    if target.WhichOneof("target") == "participant_identity":
        return scene.tracks.get(target.participant_identity, ())
    return (target.track_sid,) if target.track_sid in scene.publishers else ()


def focused(level: int) -> Focused:
    """What a level above 0 stands for."""
    thousands = -(-level // _STEP)
    rank, first = _RANKS[thousands]
    return Focused(rank, first - min(thousands * _STEP - level, _LAST_PLACE))
