"""Metadata that a publication's spec brings: its initial value, and what UpdatePublication makes of it."""

from track.v1.publication_pb2 import Publication
from track_server.metadata.content import text_of
from track_server.metadata.keeper import Keeper
from track_server.metadata.rules import Rules, expected
from track_server.metadata.view import View
from track_server.rooms.room import LiveRoom

_FIELD = "spec.metadata"


class SpecifiedMetadata:
    """What whoever publishes asks before and tells after."""

    def __init__(self, rules: Rules, view: View, keeper: Keeper) -> None:
        self._rules = rules
        self._view = view
        self._keeper = keeper

    async def check(self, publication: Publication) -> None:
        """Returns where its track may have what its spec says.

        Raises InvalidField, LimitExceeded, SchemaViolation, of `spec.metadata`.
        """
        if publication.spec.HasField("metadata"):
            await self._rules.check(expected(publication), publication.spec.metadata, _FIELD)

    def fit(self, publication: Publication, live: LiveRoom) -> None:
        """Returns where the attributes of its participant have room for it. Raises LimitExceeded."""
        if not publication.spec.HasField("metadata"):
            return
        identity = publication.participant_identity
        participant = live.model.participants.get(identity)
        wanted = self._view.wanted(live, identity)
        wanted[publication.track_sid or publication.publication_id] = text_of(publication.spec.metadata)
        attributes = dict(participant.attributes) if participant is not None else {}
        self._rules.fit(publication.room, identity, attributes, wanted, _FIELD)

    def respecified(self, publication: Publication) -> None:
        """Its spec was told again what it says of metadata: that counts, whatever was set in the meantime."""
        self._keeper.respecified(publication)
