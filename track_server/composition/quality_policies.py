"""Quality policies, and what is done where they are missed."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from track.v1.quality_policy_pb2 import QualityAction
from track_server.composition.foundation import Foundation
from track_server.composition.lives import living
from track_server.composition.subscriptions import Subscribed
from track_server.publishing.book import Book
from track_server.publishing.restarting.restarts import Restarts
from track_server.quality.abilities import Abilities
from track_server.quality.acting.acting import Acting
from track_server.quality.acting.applying import HandActions
from track_server.quality.acting.hands import Hands
from track_server.quality.acting.history import ActionHistory
from track_server.quality.acting.listing import AdaptationListing
from track_server.quality.acting.means import Means
from track_server.quality.live.assessing import Assessing
from track_server.quality.policies.policies import Policies
from track_server.quality.policies.requests import PolicyRequests
from track_server.rooms.lives import Lives
from track_server.subscription.following import Following


@dataclass(frozen=True, slots=True)
class Adapted:
    """The parts."""

    policies: Policies
    requests: PolicyRequests
    hands: Hands
    acting: Acting
    actions: HandActions
    listing: AdaptationListing
    lives: Lives

    def restore(self) -> None:
        """Begins what an earlier run left."""
        self.hands.restore()
        self.lives.restore()
        self.acting.restore()


@contextlib.asynccontextmanager
async def adapting(
    ground: Foundation,
    book: Book,
    assessing: Assessing,
    subscribed: Subscribed,
    restarts: Restarts,
    judged: Callable[[QualityAction], None],
) -> AsyncIterator[Adapted]:
    """Policies and adaptation for the span of the block. What an earlier run left is read, and begun by ``restore``.

    ``judged``: told of each action whose effect is known. Raises StoreError.
    """
    settings, rooms = ground.settings, ground.rooms
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        lives = await enter(living(ground, owner="quality", kind="quality_room"))
        policies = await enter(Policies(ground.store, book, lives, settings.max_quality_policies_per_room))
        await policies.load()
        following = await enter(Following(policies.tracks, absent_s=None))
        hands = await enter(
            Hands(
                ground.store,
                book,
                lives,
                lambda room: acting.hands_changed(room),  # noqa: PLW0108  it is made below
                lambda kept: actions.expired(kept),  # noqa: PLW0108  likewise
            )
        )
        await hands.load()
        for stake in (following, hands):
            lives.add(stake)
            book.listen(stake.announced)
        abilities = Abilities(ground.companion, book, subscribed.reported.states)
        history = ActionHistory(
            ground.store.journal,
            age_s=settings.quality_action_retention_hours * 3600,
            most=settings.quality_actions_per_room,
        )
        means = Means(
            rooms=rooms,
            assessing=assessing,
            policies=policies,
            abilities=abilities,
            hands=hands,
            history=history,
            terms=subscribed.controllers,
            restarts=restarts,
            counted=judged,
        )
        acting = await enter(Acting(means, ground.standing))
        acting.listen(rooms, policies, assessing)
        actions = await enter(HandActions(means, acting, ground.api))
        requests = await enter(PolicyRequests(policies, rooms, ground.reader, ground.api, abilities))
        yield Adapted(policies, requests, hands, acting, actions, AdaptationListing(history), lives)
