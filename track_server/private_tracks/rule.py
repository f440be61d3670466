"""Rules of who may subscribe to a track: checked, compiled, and applied to participants. Pure."""

from collections.abc import Iterable

from track.v1 import subscription_permission_pb2 as pb
from track.v1 import track_pb2
from track_server.cel import compile_filter
from track_server.errors import InvalidField, InvalidOptions

_FILTER = "rule.filter"


class Rule:
    """A rule of the contract, checked and compiled.

    Raises InvalidField for an empty rule, InvalidOptions for `nobody` together with others, and InvalidExpression with
    the position for a filter that does not compile or is no bool.
    """

    def __init__(self, message: pb.TrackSubscriptionRule) -> None:
        named, filtered = bool(message.participant_identities), bool(message.filter)
        if message.nobody and (named or filtered):
            raise InvalidOptions("nobody is not given together with participant_identities or filter", field="rule")
        if filtered and not message.filter.strip():
            raise InvalidField("the filter is blank", field=_FILTER)
        if not (message.nobody or named or filtered):
            raise InvalidField("the rule needs participant_identities, a filter, or nobody", field="rule")
        self.message = message
        self.identities = frozenset(message.participant_identities)
        """Those that are named: they may, whether they are in the room or not."""
        self._matches = compile_filter(message.filter, "participant", _FILTER)

    def refuse_publisher(self, identity: str) -> None:
        """Raises InvalidOptions where the rule names the track's own publisher, who cannot subscribe to it."""
        if identity in self.identities:
            raise InvalidOptions(
                f"participant {identity!r} publishes the track, so it cannot subscribe to it",
                field="rule.participant_identities",
            )

    def allows(self, participant: track_pb2.Participant) -> bool:
        """Whether the participant may subscribe. A filter that fails on it does not allow it."""
        if participant.identity in self.identities:
            return True
        return self._matches is not None and self._matches(participant)

    def allowed(self, participants: Iterable[track_pb2.Participant]) -> frozenset[str]:
        """Identities of those that may."""
        return frozenset(participant.identity for participant in participants if self.allows(participant))
