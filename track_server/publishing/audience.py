"""Who may subscribe to the tracks of a hosted session, as its worker is told."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from track.media.v1 import media_service_pb2 as media


@dataclass(frozen=True, slots=True)
class Audience:
    """Nobody but ``everybody`` may subscribe to tracks that are not in ``restricted``, where that has any.

    ``restricted``: by publication id, the identities that may subscribe to it.
    """

    everybody: frozenset[str] = frozenset()
    restricted: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def message(self, revision: int) -> media.SessionAudience:
        """As the worker is told."""
        return media.SessionAudience(
            revision=revision,
            everybody=sorted(self.everybody),
            restricted=[
                media.TrackAudience(publication_id=publication_id, participant_identities=sorted(identities))
                for publication_id, identities in sorted(self.restricted.items())
            ],
        )


OPEN = Audience()
"""Everybody may subscribe to everything."""


class Telling:
    """What the worker of a session is to tell LiveKit, and what LiveKit has been told."""

    def __init__(self) -> None:
        self._wanted: Audience | None = None
        self._revision = 0
        self._told: Audience | None = None

    def want(self, audience: Audience) -> bool:
        """Takes over what is wanted; returns whether that is new."""
        if audience == self._wanted or (self._wanted is None and audience == OPEN):
            return False
        self._wanted = audience
        # Also over a restart of ours: a worker that stayed may still speak of an earlier one.
        self._revision = max(self._revision + 1, time.time_ns() // 1_000_000)
        return True

    def worker_lost(self) -> None:
        """Nobody knows what LiveKit was told."""
        self._told = None

    def told(self, revision: int) -> None:
        """The worker has told LiveKit that revision."""
        if revision == self._revision:
            self._told = self._wanted

    @property
    def message(self) -> media.SessionAudience | None:
        """What the worker is told; None where nothing was ever wanted."""
        return self._wanted.message(self._revision) if self._wanted is not None else None

    @property
    def in_force(self) -> Audience | None:
        """What LiveKit was told last, as far as is known; None: nothing."""
        return self._told
