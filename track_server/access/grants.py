"""Mode `token`: the grants of the caller's token decide, less what LiveKit has since taken away."""

from collections.abc import Awaitable, Callable, Sequence

from track.v1.access_pb2 import Permission
from track.v1.track_pb2 import Participant
from track_server.access import rules
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.errors import PermissionDenied, TrackError


class GrantAccess:
    """See Access. LiveKit does not revoke tokens, so what a participant may do is read from the room where it is in it.

    ``participant``: finds the one of that room and identity, None where it is not there; may raise LiveKitUnavailable.
    """

    def __init__(self, participant: Callable[[str, str], Awaitable[Participant | None]]) -> None:
        self._participant = participant

    def admitted(self, principal: Principal, permission: "Permission.ValueType", room: str) -> bool:
        """See Access."""
        try:
            rules.admit(principal, permission, room)
        except PermissionDenied:
            return False
        return True

    async def admit(self, principal: Principal, permission: "Permission.ValueType", room: str) -> None:
        """See Access."""
        rules.admit(principal, permission, room)

    async def require(self, principal: Principal, question: Question) -> Bounds:
        """See Access. Also raises LiveKitUnavailable where the caller's participant cannot be looked up."""
        (answer,) = await self.require_each(principal, [question])
        if isinstance(answer, TrackError):
            raise answer
        return answer

    async def require_each(self, principal: Principal, questions: Sequence[Question]) -> list[Bounds | TrackError]:
        """See Access. The caller's participant is looked up once a room, and only where its token would do."""
        own: dict[str, Participant | None] = {}
        answers: list[Bounds | TrackError] = []
        for question in questions:
            room = question.room
            try:
                bounds = rules.require(principal, question)
                if not rules.is_admin(principal, room):
                    if room not in own:
                        own[room] = await self._participant(room, principal.identity)
                    rules.require(principal, question, own[room])
                answers.append(bounds)
            except TrackError as error:
                answers.append(error)
        return answers

    async def review(self, asked: Sequence[tuple[Principal, Question]]) -> list[Bounds | TrackError]:
        """See Access."""
        answers: list[Bounds | TrackError] = [UNBOUNDED] * len(asked)
        places: dict[bytes, list[int]] = {}
        for place, (principal, question) in enumerate(asked):
            if question.participant_identity:
                places.setdefault(principal.fingerprint, []).append(place)
            else:
                try:
                    rules.admit(principal, question.permission, question.room)
                except TrackError as error:
                    answers[place] = error
        for group in places.values():
            found = await self.require_each(asked[group[0]][0], [asked[place][1] for place in group])
            for place, answer in zip(group, found, strict=True):
                answers[place] = answer
        return answers

    def refused(self, principal: Principal, question: Question, detail: str) -> None:
        """See Access."""
