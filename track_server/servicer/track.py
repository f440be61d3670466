"""TrackService: all its capabilities in one class."""

from track.v1 import server_info_pb2
from track_server.access.service_mode.access import ServiceAccess
from track_server.access.track_tokens import TrackTokens
from track_server.audit.record import Record
from track_server.health import Readiness
from track_server.moderation.mutes import Mutes
from track_server.moderation.unpublishing import Unpublishing
from track_server.publishing.publishing import Publishing
from track_server.publishing.push.pushes import Pushes
from track_server.publishing.restarting.restarts import Restarts
from track_server.publishing.updates import PublicationUpdates
from track_server.quality.quality import Quality
from track_server.rooms.reading import Reader
from track_server.rooms.rooms import Rooms
from track_server.servicer.audit import AuditEntries
from track_server.servicer.events import Events
from track_server.servicer.moderation import Moderation
from track_server.servicer.publications import Publications
from track_server.servicer.quality import QualityReports
from track_server.servicer.server_info import ServerInformation
from track_server.servicer.subscription_permissions import TrackSubscriptionPermissions
from track_server.servicer.subscriptions import Subscriptions
from track_server.servicer.tokens import OperationTokens
from track_server.servicer.tracks import Tracks
from track_server.subscription.permissions import SubscriptionPermissions
from track_server.subscription.updates import SubscriptionUpdates


class TrackService(
    Publications,
    Tracks,
    Events,
    Moderation,
    Subscriptions,
    TrackSubscriptionPermissions,
    QualityReports,
    OperationTokens,
    AuditEntries,
    ServerInformation,
):
    """The service: every method reads the request, calls the domain, and answers."""

    def __init__(
        self,
        *,
        rooms: Rooms,
        reader: Reader,
        publishing: Publishing,
        updates: PublicationUpdates,
        restarts: Restarts,
        pushes: Pushes,
        unpublishing: Unpublishing,
        mutes: Mutes,
        subscriptions: SubscriptionUpdates,
        subscription_permissions: SubscriptionPermissions,
        track_tokens: TrackTokens,
        quality: Quality,
        record: Record,
        readiness: Readiness,
        about: server_info_pb2.GetServerInfoResponse,
        debug_view: bool,
        own_workers: int,
        permissions: ServiceAccess | None = None,
    ) -> None:
        self.rooms = rooms
        self.reader = reader
        self.publishing = publishing
        self.updates = updates
        self.restarts = restarts
        self.pushes = pushes
        self.unpublishing = unpublishing
        self.mutes = mutes
        self.subscriptions = subscriptions
        self.subscription_permissions = subscription_permissions
        self.track_tokens = track_tokens
        self.quality = quality
        self.record = record
        self.readiness = readiness
        self.about = about
        self.debug_view = debug_view
        self.own_workers = own_workers
        self.permissions = permissions
