"""TrackService: all its capabilities in one class."""

from track.v1 import server_info_pb2
from track_server.health import Readiness
from track_server.moderation.mutes import Mutes
from track_server.publishing.publishing import Publishing
from track_server.quality.quality import Quality
from track_server.rooms.reading import Reader
from track_server.rooms.rooms import Rooms
from track_server.servicer.events import Events
from track_server.servicer.moderation import Moderation
from track_server.servicer.publications import Publications
from track_server.servicer.quality import QualityReports
from track_server.servicer.server_info import ServerInformation
from track_server.servicer.subscriptions import Subscriptions
from track_server.servicer.tracks import Tracks
from track_server.subscription.updates import SubscriptionUpdates


class TrackService(Publications, Tracks, Events, Moderation, Subscriptions, QualityReports, ServerInformation):
    """The service: every method reads the request, calls the domain, and answers."""

    def __init__(
        self,
        *,
        rooms: Rooms,
        reader: Reader,
        publishing: Publishing,
        mutes: Mutes,
        subscriptions: SubscriptionUpdates,
        quality: Quality,
        readiness: Readiness,
        about: server_info_pb2.GetServerInfoResponse,
        debug_view: bool,
        own_workers: int,
    ) -> None:
        self.rooms = rooms
        self.reader = reader
        self.publishing = publishing
        self.mutes = mutes
        self.subscriptions = subscriptions
        self.quality = quality
        self.readiness = readiness
        self.about = about
        self.debug_view = debug_view
        self.own_workers = own_workers
