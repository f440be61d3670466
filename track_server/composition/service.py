"""TrackService itself: every capability in the one servicer, and what it tells of this server."""

from importlib import metadata
from typing import Final

from track.v1 import server_info_pb2
from track_server.audit.record import Record
from track_server.composition.authority import Authority
from track_server.composition.client_stats import hearing_clients
from track_server.composition.foundation import Foundation
from track_server.composition.work import Work
from track_server.config import Settings
from track_server.durations import duration_of
from track_server.health import Readiness
from track_server.interceptors.context import DEFAULT_WAIT_S
from track_server.limits.quotas import quotas
from track_server.moderation.unpublishing import Unpublishing
from track_server.paging import MAX_PAGE_SIZE
from track_server.private_tracks.permissions import SubscriptionPermissions
from track_server.publishing.capacity import Capacity
from track_server.publishing.clearance import Clearance
from track_server.publishing.ending import Ending
from track_server.publishing.progress import Progress
from track_server.publishing.publishing import Publishing
from track_server.publishing.push.pushes import Pushes
from track_server.publishing.updates import PublicationUpdates
from track_server.quality.live.assessing import TICK_S
from track_server.rooms.watching import Watching
from track_server.servicer.track import TrackService
from track_server.subscription.listing import SubscriptionListing
from track_server.subscription.updates import SubscriptionUpdates

_AUTH_MODES: Final = {
    "off": server_info_pb2.AUTH_MODE_OFF,
    "token": server_info_pb2.AUTH_MODE_TOKEN,
    "service": server_info_pb2.AUTH_MODE_SERVICE,
}
_DAY_S: Final = 24 * 3600.0


def track_service(ground: Foundation, authority: Authority, work: Work, readiness: Readiness) -> TrackService:
    """The servicer over all parts."""
    settings, rooms, api, access = ground.settings, ground.rooms, ground.api, authority.access
    clearance = Clearance(
        access, Capacity(settings), work.book, media_dir=settings.media_dir, url_hosts=settings.media_url_hosts
    )
    progress = Progress(rooms, work.book)
    ending = Ending(rooms, work.book, work.routed.routes, progress)
    specified = work.described.specified
    return TrackService(
        rooms=rooms,
        watching=Watching(rooms, ground.subscriptions, [work.alerted.following]),
        reader=ground.reader,
        publishing=Publishing(
            rooms, api, work.book, work.routed.routes, access, clearance, progress, ending, specified
        ),
        updates=PublicationUpdates(
            rooms,
            work.book,
            work.routed.clients,
            work.replaced.client_updates,
            work.hosted.sessions,
            access,
            clearance,
            progress,
            work.replaced.replacing,
            specified,
        ),
        restarts=work.replaced.restarts,
        pushes=Pushes(work.book, work.hosted.feeds, access),
        pulls=work.pulls,
        unpublishing=Unpublishing(rooms, api, access, work.book, ending, ground.companion, work.moderated.withholding),
        mutes=work.moderated.mutes,
        lifting=work.moderated.lifting,
        questions=work.moderated.questions,
        track_tokens=authority.track_tokens,
        subscriptions=SubscriptionUpdates(
            rooms,
            api,
            access,
            work.private.means.restrictions,
            work.subscribed.ruled.policies,
            work.subscribed.chosen.choices,
            work.subscribed.asking,
            work.subscribed.controllers,
            work.subscribed.received,
        ),
        subscription_listing=SubscriptionListing(
            rooms,
            work.private.means.restrictions,
            work.subscribed.chosen.choices,
            work.subscribed.controllers,
            work.subscribed.received,
        ),
        subscription_permissions=SubscriptionPermissions(work.private.means, work.private.enforcement, access),
        subscription_policies=work.subscribed.ruled.requests,
        explaining=work.subscribed.explaining,
        focus=work.subscribed.focused.requests,
        state_reporting=work.subscribed.reported.reporting,
        metadata=work.described.metadata,
        schemas=work.described.policies,
        egress=work.egress.calls,
        egress_rules=work.egress.rules,
        webhooks=work.hooks.webhooks,
        quality=work.measured.quality,
        quality_streams=work.streams,
        quality_policies=work.adapted.requests,
        hand_actions=work.adapted.actions,
        adaptation_listing=work.adapted.listing,
        stats_reporting=hearing_clients(ground, authority, work.measured, work.subscribed.reported),
        alert_listing=work.alerted.alert_listing,
        history_listing=work.alerted.history_listing,
        recorder=work.alerted.recorder,
        record=Record(
            ground.store.journal,
            age_s=settings.audit_retention_days * _DAY_S,
            entries=settings.audit_max_entries,
        ),
        readiness=readiness,
        about=_about(settings, ground.companion.key.public),
        debug_view=ground.debug is not None,
        own_workers=settings.media_workers,
        permissions=authority.permissions,
    )


def _about(settings: Settings, control_key: server_info_pb2.ControlKey) -> server_info_pb2.GetServerInfoResponse:
    service = server_info_pb2.PermissionServiceInfo(
        address=settings.permission_address, max_stale_age=duration_of(settings.permission_stale_seconds)
    )
    return server_info_pb2.GetServerInfoResponse(
        version=metadata.version("track-server"),
        auth_mode=_AUTH_MODES[settings.auth_mode],
        livekit=server_info_pb2.LiveKitInfo(url=settings.livekit_url),
        permission_service=service if settings.auth_mode == "service" else None,
        control_key=control_key,
        limits=server_info_pb2.Limits(
            max_request_bytes=settings.max_request_bytes,
            max_events_per_room=settings.max_events_per_room,
            max_page_size=MAX_PAGE_SIZE,
            min_report_interval=duration_of(TICK_S),
            default_wait=duration_of(DEFAULT_WAIT_S),
            quotas=quotas(settings),
        ),
    )
