"""Every limit with what it is counted for, for GetServerInfo."""

from collections.abc import Mapping
from typing import Final

from track.v1.server_info_pb2 import Quota, QuotaScope
from track_server.config.limits import LimitSettings

SCOPES: Final[Mapping[str, "QuotaScope.ValueType"]] = {
    "max_requests_per_second": QuotaScope.QUOTA_SCOPE_SERVER,
    "max_requests_per_second_per_principal": QuotaScope.QUOTA_SCOPE_PRINCIPAL,
    "max_requests_per_second_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_authentications_per_second": QuotaScope.QUOTA_SCOPE_SERVER,
    "max_concurrent_calls": QuotaScope.QUOTA_SCOPE_SERVER,
    "max_concurrent_calls_per_principal": QuotaScope.QUOTA_SCOPE_PRINCIPAL,
    "max_streams": QuotaScope.QUOTA_SCOPE_SERVER,
    "max_streams_per_principal": QuotaScope.QUOTA_SCOPE_PRINCIPAL,
    "max_streams_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_streams_per_connection": QuotaScope.QUOTA_SCOPE_CONNECTION,
    "max_connection_age_seconds": QuotaScope.QUOTA_SCOPE_CONNECTION,
    "max_request_bytes": QuotaScope.QUOTA_SCOPE_REQUEST,
    "max_frame_bytes": QuotaScope.QUOTA_SCOPE_REQUEST,
    "max_header_bytes": QuotaScope.QUOTA_SCOPE_REQUEST,
    "max_metadata_bytes": QuotaScope.QUOTA_SCOPE_TRACK,
    "max_metadata_depth": QuotaScope.QUOTA_SCOPE_TRACK,
    "max_metadata_keys": QuotaScope.QUOTA_SCOPE_TRACK,
    "max_metadata_key_bytes": QuotaScope.QUOTA_SCOPE_TRACK,
    "max_participant_attributes_bytes": QuotaScope.QUOTA_SCOPE_PARTICIPANT,
    "max_metadata_changes_per_second_per_participant": QuotaScope.QUOTA_SCOPE_PARTICIPANT,
    "max_metadata_change_bytes_per_second_per_participant": QuotaScope.QUOTA_SCOPE_PARTICIPANT,
    "max_metadata_schemas": QuotaScope.QUOTA_SCOPE_SERVER,
    "max_metadata_schemas_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_publications": QuotaScope.QUOTA_SCOPE_SERVER,
    "max_publications_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_publications_per_principal": QuotaScope.QUOTA_SCOPE_PRINCIPAL,
    "max_egress": QuotaScope.QUOTA_SCOPE_SERVER,
    "max_egress_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_egress_rules_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_subscription_policies_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_quality_policies_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_webhook_subscriptions": QuotaScope.QUOTA_SCOPE_SERVER,
    "max_webhook_subscriptions_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_webhook_subscriptions_per_principal": QuotaScope.QUOTA_SCOPE_PRINCIPAL,
    "max_focuses_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_moderation_blocks_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_tracks_per_participant": QuotaScope.QUOTA_SCOPE_PARTICIPANT,
    "max_tracks_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_track_bitrate_bps": QuotaScope.QUOTA_SCOPE_TRACK,
    "max_participant_bitrate_bps": QuotaScope.QUOTA_SCOPE_PARTICIPANT,
    "max_room_bitrate_bps": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_pulls": QuotaScope.QUOTA_SCOPE_SERVER,
    "max_pulls_per_room": QuotaScope.QUOTA_SCOPE_ROOM,
    "max_pulls_per_principal": QuotaScope.QUOTA_SCOPE_PRINCIPAL,
    "max_video_pixels": QuotaScope.QUOTA_SCOPE_TRACK,
}
"""By the name of the setting, which is the limit's name everywhere."""

# Where 0 means that there is no limit.
_OPEN_AT_ZERO: Final = {"max_connection_age_seconds"}


def quotas(limits: LimitSettings) -> list[Quota]:
    """The limits with their values; without those that are switched off."""
    return [
        Quota(name=name, value=value, scope=scope)
        for name, scope in SCOPES.items()
        if (value := getattr(limits, name)) or name not in _OPEN_AT_ZERO
    ]
