"""Webhooks: the endpoint for those of LiveKit, what is done about them, and the subscriptions to events of ours."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import metadata

from prometheus_client import Counter

from track_server.composition.authority import Authority
from track_server.composition.foundation import Foundation
from track_server.config import environment_name
from track_server.livekit.webhook import WebhookReader
from track_server.rooms.hints import Hints
from track_server.rooms.listening import Listening, Listenings
from track_server.webhooks.deliveries import Deliveries
from track_server.webhooks.endpoint import Endpoint
from track_server.webhooks.lane import Means
from track_server.webhooks.positions import Positions
from track_server.webhooks.sender import Sender
from track_server.webhooks.targets import Targets
from track_server.webhooks.webhooks import Webhooks

# Positions of rooms that have ended outlive their events a little.
_MARGIN_S = 3600.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """The parts. ``endpoint``: to be entered once everything is there."""

    endpoint: Endpoint
    hints: Hints
    webhooks: Webhooks


@contextlib.asynccontextmanager
async def hooking(ground: Foundation, authority: Authority, listening: Listening) -> AsyncIterator[Hooks]:
    """Webhooks for the span of the block. What an earlier run left is begun by ``webhooks.restore``.

    ``listening``: what else is told who listens to what.
    """
    settings = ground.settings
    async with contextlib.AsyncExitStack() as stack:
        hints = await stack.enter_async_context(Hints(ground.rooms, ground.standing, ground.api))
        endpoint = Endpoint(
            settings.webhook_listen,
            environment_name("webhook_listen"),
            WebhookReader(ground.keys),
            hints,
            ground.registry,
        )
        targets = Targets(settings.webhook_hosts, allow_private=settings.webhook_allow_private)
        sender = await stack.enter_async_context(
            Sender(
                targets,
                ground.tokens.sign,
                timeout_s=settings.webhook_timeout_seconds,
                user_agent=f"track-server/{metadata.version('track-server')}",
            )
        )
        positions = Positions(ground.store, kept_s=settings.event_retention_hours * 3600.0 + _MARGIN_S)
        tries = Counter(
            "track_webhook_deliveries",
            "Events on their way to receivers of webhooks: tries that were taken or failed, and events parked.",
            ("outcome",),
            registry=ground.registry,
        )
        means = Means(
            ground.rooms, positions, settings.webhook_give_up_seconds, lambda outcome: tries.labels(outcome).inc()
        )
        deliveries = await stack.enter_async_context(
            Deliveries(ground.store, ground.standing, Listenings([ground.subscriptions, listening]), sender, means)
        )
        webhooks = await stack.enter_async_context(
            Webhooks(ground.store, ground.api, ground.rooms, targets, positions, deliveries, settings)
        )
        authority.revocation.add(webhooks.standing)
        yield Hooks(endpoint, hints, webhooks)
