"""TrackService: all its capabilities in one class."""

from track.v1 import server_info_pb2
from track_server.access.service_mode.access import ServiceAccess
from track_server.access.track_tokens import TrackTokens
from track_server.audit.record import Record
from track_server.egress.requests import EgressCalls
from track_server.egress.rules import EgressRules
from track_server.health import Readiness
from track_server.metadata.metadata import Metadata
from track_server.metadata.policies import SchemaPolicies
from track_server.moderation.asking import Questions
from track_server.moderation.lifting import Lifting
from track_server.moderation.mutes import Mutes
from track_server.moderation.unpublishing import Unpublishing
from track_server.private_tracks.permissions import SubscriptionPermissions
from track_server.publishing.publishing import Publishing
from track_server.publishing.push.pushes import Pushes
from track_server.publishing.restarting.restarts import Restarts
from track_server.publishing.updates import PublicationUpdates
from track_server.pulling.pulls import Pulls
from track_server.quality.acting.applying import HandActions
from track_server.quality.acting.listing import AdaptationListing
from track_server.quality.alerts.listing import AlertListing
from track_server.quality.history.listing import HistoryListing
from track_server.quality.live.quality import Quality
from track_server.quality.policies.requests import PolicyRequests as QualityPolicyRequests
from track_server.quality.recordings.recorder import Recorder
from track_server.quality.reporting.reporting import StatsReporting
from track_server.quality.streaming.streams import Streams
from track_server.rooms.reading import Reader
from track_server.rooms.rooms import Rooms
from track_server.rooms.watching import Watching
from track_server.servicer.audit import AuditEntries
from track_server.servicer.egress import TrackRecordings
from track_server.servicer.events import Events
from track_server.servicer.focus import Focusing
from track_server.servicer.metadata import TrackMetadata
from track_server.servicer.moderation import Moderation
from track_server.servicer.publications import Publications
from track_server.servicer.pulls import TrackPulls
from track_server.servicer.quality import QualityReports
from track_server.servicer.quality_history import QualityHistory
from track_server.servicer.quality_policies import QualityPolicies
from track_server.servicer.quality_stats import StatsReports
from track_server.servicer.server_info import ServerInformation
from track_server.servicer.subscriber_states import SubscriberReports
from track_server.servicer.subscription_permissions import TrackSubscriptionPermissions
from track_server.servicer.subscription_policies import SubscriptionPolicies
from track_server.servicer.subscriptions import Subscriptions
from track_server.servicer.tokens import OperationTokens
from track_server.servicer.tracks import Tracks
from track_server.servicer.webhooks import WebhookSubscriptions
from track_server.subscription.explaining.explaining import Explaining
from track_server.subscription.focus.requests import FocusRequests
from track_server.subscription.listing import SubscriptionListing
from track_server.subscription.policies.requests import PolicyRequests
from track_server.subscription.states.reporting import StateReporting
from track_server.subscription.updates import SubscriptionUpdates
from track_server.webhooks.webhooks import Webhooks


class TrackService(
    Publications,
    Tracks,
    Events,
    Moderation,
    TrackMetadata,
    Subscriptions,
    SubscriberReports,
    SubscriptionPolicies,
    Focusing,
    TrackSubscriptionPermissions,
    TrackRecordings,
    WebhookSubscriptions,
    QualityReports,
    StatsReports,
    QualityHistory,
    QualityPolicies,
    TrackPulls,
    OperationTokens,
    AuditEntries,
    ServerInformation,
):
    """The service: every method reads the request, calls the domain, and answers."""

    def __init__(
        self,
        *,
        rooms: Rooms,
        watching: Watching,
        reader: Reader,
        publishing: Publishing,
        updates: PublicationUpdates,
        restarts: Restarts,
        pushes: Pushes,
        pulls: Pulls,
        unpublishing: Unpublishing,
        mutes: Mutes,
        lifting: Lifting,
        questions: Questions,
        subscriptions: SubscriptionUpdates,
        subscription_listing: SubscriptionListing,
        subscription_permissions: SubscriptionPermissions,
        subscription_policies: PolicyRequests,
        explaining: Explaining,
        focus: FocusRequests,
        state_reporting: StateReporting,
        track_tokens: TrackTokens,
        metadata: Metadata,
        schemas: SchemaPolicies,
        egress: EgressCalls,
        egress_rules: EgressRules,
        webhooks: Webhooks,
        quality: Quality,
        quality_streams: Streams,
        quality_policies: QualityPolicyRequests,
        hand_actions: HandActions,
        adaptation_listing: AdaptationListing,
        stats_reporting: StatsReporting,
        alert_listing: AlertListing,
        history_listing: HistoryListing,
        recorder: Recorder,
        record: Record,
        readiness: Readiness,
        about: server_info_pb2.GetServerInfoResponse,
        debug_view: bool,
        own_workers: int,
        permissions: ServiceAccess | None = None,
    ) -> None:
        self.rooms = rooms
        self.watching = watching
        self.reader = reader
        self.publishing = publishing
        self.updates = updates
        self.restarts = restarts
        self.pushes = pushes
        self.pulls = pulls
        self.unpublishing = unpublishing
        self.mutes = mutes
        self.lifting = lifting
        self.questions = questions
        self.subscriptions = subscriptions
        self.subscription_listing = subscription_listing
        self.subscription_permissions = subscription_permissions
        self.subscription_policies = subscription_policies
        self.explaining = explaining
        self.focus = focus
        self.state_reporting = state_reporting
        self.track_tokens = track_tokens
        self.metadata = metadata
        self.schemas = schemas
        self.egress = egress
        self.egress_rules = egress_rules
        self.webhooks = webhooks
        self.quality = quality
        self.quality_streams = quality_streams
        self.quality_policies = quality_policies
        self.hand_actions = hand_actions
        self.adaptation_listing = adaptation_listing
        self.stats_reporting = stats_reporting
        self.alert_listing = alert_listing
        self.history_listing = history_listing
        self.recorder = recorder
        self.record = record
        self.readiness = readiness
        self.about = about
        self.debug_view = debug_view
        self.own_workers = own_workers
        self.permissions = permissions
