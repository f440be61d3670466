"""Subscriptions that were made through this service rest on a permission, and are taken away with it.

LiveKit keeps a subscription whoever asked for it, and knows nothing of the permission service.
"""

from collections.abc import Iterable
from typing import Final

from track.v1 import access_pb2
from track_server.access.question import Question
from track_server.access.revocation import StandingEffect
from track_server.deadline import Deadline
from track_server.errors import PermissionDenied
from track_server.rooms.causes import PERMISSION_REVOKED, rule_cause
from track_server.subscription.choice import Choice, Chosen
from track_server.subscription.choices import Choices
from track_server.subscription.controller.asking import Asking

_TAKEN_S: Final = 10.0
"""How long LiveKit may be away until the permission is looked at once more."""


class GrantedSubscriptions:
    """The choices to subscribe, as Revocation wants to see them."""

    def __init__(self, choices: Choices, asking: Asking) -> None:
        self._choices = choices
        self._asking = asking

    def __call__(self) -> Iterable[StandingEffect]:
        """See Revocation.add."""
        return [
            self._standing(chosen, choice)
            for chosen, choice in self._choices.all()
            if choice.subscribe and not choice.principal.unrestricted
        ]

    def _standing(self, chosen: Chosen, choice: Choice) -> StandingEffect:
        room, identity, sid = chosen.room, choice.participant_identity, chosen.track_sid
        question = Question(access_pb2.PERMISSION_SUBSCRIBE, room, identity, sid)

        async def end(error: PermissionDenied) -> None:
            cause = rule_cause(PERMISSION_REVOKED, error.message)
            deadline = Deadline.after(_TAKEN_S)
            # Given up once it is taken away: what fails before is found again.
            await self._asking.ask(room, identity, [sid], subscribe=False, cause=cause, deadline=deadline)
            await self._choices.release(room, identity, sid)

        return StandingEffect(choice.principal, question, end)
