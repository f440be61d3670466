"""Who decides what a principal may do: one interface, an implementation for each auth mode."""

from collections.abc import Sequence
from typing import Protocol

from track.v1.access_pb2 import Permission
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.errors import TrackError


class Access(Protocol):
    """Decides. Raises PermissionDenied, or what hinders a decision: LiveKitUnavailable, PermissionServiceUnavailable.

    ``admitted`` and ``admit`` are about the room as such, before anything is looked at; ``require`` is about each
    participant that is acted on.
    """

    def admitted(self, principal: Principal, permission: "Permission.ValueType", room: str) -> bool:
        """Whether it is known at once that the principal may use the permission in the room; False: ask `admit`."""

    async def admit(self, principal: Principal, permission: "Permission.ValueType", room: str) -> None:
        """Returns where the principal may use the permission on somebody in the room, or at all; else raises."""

    async def require(self, principal: Principal, question: Question) -> Bounds:
        """Returns where the principal may, with the bounds within which; else raises."""

    async def require_each(self, principal: Principal, questions: Sequence[Question]) -> list[Bounds | TrackError]:
        """`require` for each, in order, with what it would raise in its place."""

    async def review(self, asked: Sequence[tuple[Principal, Question]]) -> list[Bounds | TrackError]:
        """For each, in order, `require`, or without a participant `admit`, with what it would raise in its place.

        For many principals at once. All of it was allowed before.
        """

    def refused(self, principal: Principal, question: Question, detail: str) -> None:
        """Is told that LiveKit refused, for lack of permission, what was allowed here. ``detail``: what was seen."""


class Open:
    """Mode `off`: everybody may do everything."""

    def admitted(self, principal: Principal, permission: "Permission.ValueType", room: str) -> bool:
        """See Access."""
        return True

    async def admit(self, principal: Principal, permission: "Permission.ValueType", room: str) -> None:
        """See Access."""

    async def require(self, principal: Principal, question: Question) -> Bounds:
        """See Access."""
        return UNBOUNDED

    async def require_each(self, principal: Principal, questions: Sequence[Question]) -> list[Bounds | TrackError]:
        """See Access."""
        return [UNBOUNDED] * len(questions)

    async def review(self, asked: Sequence[tuple[Principal, Question]]) -> list[Bounds | TrackError]:
        """See Access."""
        return [UNBOUNDED] * len(asked)

    def refused(self, principal: Principal, question: Question, detail: str) -> None:
        """See Access."""
