"""The controllers of rooms: what rules, focuses, choices and reports say is brought about, and held."""

import contextlib
import secrets
from collections.abc import AsyncIterator

from prometheus_client import Counter

from track_server.audit.recorder import Recorder
from track_server.composition.choices import Chosen
from track_server.composition.focus import Focused
from track_server.composition.foundation import Foundation
from track_server.composition.policies import Ruled
from track_server.composition.states import Reported
from track_server.private_tracks.restrictions import Restrictions
from track_server.store.leases import Leases
from track_server.subscription.controller.asking import Asking
from track_server.subscription.controller.claims import Claims
from track_server.subscription.controller.controllers import Controllers
from track_server.subscription.controller.limits import Limits
from track_server.subscription.controller.means import Counts, Means
from track_server.subscription.controller.takings import Takings


@contextlib.asynccontextmanager
async def controlling(
    ground: Foundation,
    restrictions: Restrictions,
    asking: Asking,
    reported: Reported,
    chosen: Chosen,
    ruled: Ruled,
    focused: Focused,
) -> AsyncIterator[Controllers]:
    """The controllers for the span of the block. What an earlier run left is read, and begun by ``restore``.

    Raises StoreError.
    """
    decided = Counter(
        "track_subscription_decisions",
        "Decisions about one subscriber and one track.",
        registry=ground.registry,
    )
    corrected = Counter(
        "track_subscription_corrections",
        "Subscriptions that a client changed against a rule, and that were set back.",
        registry=ground.registry,
    )
    async with contextlib.AsyncExitStack() as stack:
        takings = Takings(ground.store)
        await takings.load()
        recorder = Recorder(ground.store)
        stack.push_async_callback(recorder.aclose)
        means = Means(
            rooms=ground.rooms,
            standing=ground.standing,
            api=ground.api,
            subscriptions=ground.subscriptions,
            asking=asking,
            claims=Claims(),
            client_layers=reported.client_layers,
            policies=ruled.policies,
            focuses=focused.focuses,
            choices=chosen.choices,
            states=reported.states,
            attendance=reported.attendance,
            restrictions=restrictions,
            limits=Limits(),
            takings=takings,
            leases=Leases(ground.store, secrets.token_hex(8)),
            recorder=recorder,
            counts=Counts(decided.inc, corrected.inc),
        )
        controllers = await stack.enter_async_context(Controllers(means))
        ground.rooms.listen(controllers.happened)
        ground.standing.listen(controllers.watched)
        ground.standing.miss(controllers.missed)
        ground.subscriptions.look_along(controllers.looked)
        yield controllers
