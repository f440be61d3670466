"""What is to be of one subscription, and why. Pure."""

from dataclasses import dataclass
from typing import Final

from track.v1.subscription_pb2 import SubscriptionDecider
from track_server.rooms.causes import SUBSCRIPTION_CHOICE, SUBSCRIPTION_GIVEN_BACK, SUBSCRIPTION_POLICY
from track_server.subscription.controller.outcome import Outcome
from track_server.subscription.controller.progress import Progress

_TRIES: Final = 4
"""A client that does not get a track back after so many is not interested, or cannot have it."""


@dataclass(slots=True)
class Wish:
    """Of one subscriber and track. ``since``: when the track was there, on the clock of its progress."""

    progress: Progress
    since: float
    outcome: Outcome | None = None
    giving_back: bool = False
    """It is subscribed for nobody's word, but because it was taken away."""

    def aim(self, outcome: Outcome | None, now: float, *, taken: bool) -> bool:
        """That is decided now; says whether there is anything to bring about or to hold.

        ``taken``: this service unsubscribed it. It is given back where nobody decides about it any more, unless the
        track is private by now.
        """
        self.outcome = outcome
        wanted = None if outcome is None or outcome.private else outcome.subscribed
        self.giving_back = taken and wanted is None and not (outcome is not None and outcome.private)
        self.progress.want(True if self.giving_back else wanted, now)
        return outcome is not None or self.giving_back

    @property
    def given(self) -> bool:
        """Whether it was given back, as far as that can be brought about."""
        return self.giving_back and (self.progress.reached or self.progress.rounds >= _TRIES)

    @property
    def held(self) -> bool:
        """Whether a client that does otherwise is corrected."""
        return self.outcome is not None and self.outcome.held

    @property
    def why(self) -> tuple[str, str]:
        """The rule of this service and the reason, as causes name them."""
        if self.giving_back or self.outcome is None:
            return SUBSCRIPTION_GIVEN_BACK, ""
        if self.outcome.decider == SubscriptionDecider.SUBSCRIPTION_DECIDER_MANUAL:
            return SUBSCRIPTION_CHOICE, ""
        return SUBSCRIPTION_POLICY, self.outcome.rule
