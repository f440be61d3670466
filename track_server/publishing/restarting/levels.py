"""Which levels of a restart apply to a track, and when one was enough. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from track.v1.publication_pb2 import PublicationRoute
from track.v1.publication_update_pb2 import RestartLevel
from track.v1.track_pb2 import TrackType
from track_server.errors import InvalidOptions, NotSupported

Level: TypeAlias = "RestartLevel.ValueType"

DEFAULT: Final = RestartLevel.RESTART_LEVEL_UNSPECIFIED
KEYFRAME: Final = RestartLevel.RESTART_LEVEL_KEYFRAME
RESUBSCRIBE: Final = RestartLevel.RESTART_LEVEL_RESUBSCRIBE
REPUBLISH: Final = RestartLevel.RESTART_LEVEL_REPUBLISH
REJOIN: Final = RestartLevel.RESTART_LEVEL_REJOIN

_HOSTED: Final = PublicationRoute.PUBLICATION_ROUTE_HOSTED
_INGRESS: Final = PublicationRoute.PUBLICATION_ROUTE_INGRESS
_UNSPECIFIED: Final = PublicationRoute.PUBLICATION_ROUTE_UNSPECIFIED

_BY_TYPE: Final[Mapping[int, tuple[Level, ...]]] = {
    TrackType.TRACK_TYPE_VIDEO: (KEYFRAME, RESUBSCRIBE, REPUBLISH, REJOIN),
    TrackType.TRACK_TYPE_AUDIO: (RESUBSCRIBE, REPUBLISH, REJOIN),
    # LiveKit has no way to subscribe others to data tracks.
    TrackType.TRACK_TYPE_DATA: (REPUBLISH, REJOIN),
}


@dataclass(frozen=True, slots=True)
class Restartable:
    """What is to be restarted. ``route``: of its publication; unspecified for a track that is none."""

    type: "TrackType.ValueType"
    route: "PublicationRoute.ValueType"
    messages: bool = False
    """Data messages, which have no SID."""

    @property
    def hosted(self) -> bool:
        """Whether a session of this service publishes it."""
        return self.route == _HOSTED


def levels_of(what: Restartable, asked: Level, *, graceful: bool) -> tuple[Level, ...]:
    """The levels to go through, mildest first, until media flows: the one ``asked`` for alone, or all that apply.

    Raises NotSupported where none applies or the one asked for does not, InvalidOptions where it cannot be graceful.
    """
    if graceful and asked not in (DEFAULT, REPUBLISH):
        raise InvalidOptions("only REPUBLISH can be graceful", field="graceful")
    if what.route == _INGRESS:
        raise NotSupported("an ingress is restarted by whoever sends it", field="publication_id")
    levels = _BY_TYPE.get(what.type, ())
    if what.messages:
        levels = tuple(level for level in levels if level != REPUBLISH)
    if not what.hosted:
        # Joining again is the app's own affair.
        levels = tuple(level for level in levels if level != REJOIN)
    if asked == DEFAULT:
        return levels
    if asked not in levels:
        name = RestartLevel.Name(asked).removeprefix("RESTART_LEVEL_")
        kind = TrackType.Name(what.type).removeprefix("TRACK_TYPE_")
        whose = "" if what.hosted else " of participants' own clients"
        raise NotSupported(f"{name} does not apply to tracks of type {kind}{whose}", field="level")
    return (asked,)


@dataclass(frozen=True, slots=True)
class MediaFlow:
    """What was seen of a track's media for a moment. ``sent``: by the publisher; None: nobody tells. ``served`` and
    ``starved``: how many subscribers that want it were sent something by LiveKit, and how many nothing."""

    sent: bool | None
    served: int = 0
    starved: int = 0

    @property
    def seen(self) -> bool:
        """Whether anything was seen to flow, and nothing not to."""
        return self.sent is not False and not self.starved and (self.sent is True or self.served > 0)


def is_enough(level: Level, flow: MediaFlow, *, muted: bool, took_effect: bool) -> bool:
    """Whether the ladder ends after ``level``.

    Of a muted track nothing flows, and of some nobody tells: then it is enough that the level took effect. A subscriber
    that gets nothing is given another subscription; nothing more is begun anew because of it while others get media.
    """
    if muted or (flow.sent is None and not flow.served and not flow.starved):
        return took_effect
    if flow.sent is False:
        return False
    if not flow.starved:
        return True
    return level != KEYFRAME and flow.served > 0
