"""Settings of the limits. Each is named in the refusal that it causes as here."""

from pydantic import Field

from track_server.config.environment import Environment


class LimitSettings(Environment):
    """The limits whose excess is RESOURCE_EXHAUSTED."""

    max_requests_per_second: int = Field(
        default=5000, ge=1, le=1_000_000, description="Calls a second that the server takes, 1 to 1000000."
    )
    max_requests_per_second_per_principal: int = Field(
        default=2000, ge=1, le=1_000_000, description="Calls a second that a caller may make, 1 to 1000000."
    )
    max_requests_per_second_per_room: int = Field(
        default=3000, ge=1, le=1_000_000, description="Calls a second about one room, 1 to 1000000."
    )
    max_concurrent_calls: int = Field(
        default=4000, ge=1, le=100_000, description="Calls that are served at once, streams apart, 1 to 100000."
    )
    max_concurrent_calls_per_principal: int = Field(
        default=2000, ge=1, le=100_000, description="Calls of a caller that are served at once, 1 to 100000."
    )
    max_authentications_per_second: int = Field(
        default=2000,
        ge=1,
        le=1_000_000,
        description="Tokens not seen before that are verified a second, 1 to 1000000.",
    )
    max_streams: int = Field(default=5000, ge=1, le=100_000, description="Streams that are open at once, 1 to 100000.")
    max_streams_per_principal: int = Field(
        default=500, ge=1, le=100_000, description="Streams that a caller may have open at once, 1 to 100000."
    )
    max_streams_per_room: int = Field(
        default=1000, ge=1, le=100_000, description="Streams about one room that are open at once, 1 to 100000."
    )
    max_streams_per_connection: int = Field(
        default=1000, ge=1, le=100_000, description="Calls and streams of one connection at once, 1 to 100000."
    )
    max_connection_age_seconds: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="How old a connection may become until it takes no more calls, up to 1000000 s. 0: any age.",
    )
    max_request_bytes: int = Field(
        default=1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest request, 1024 to 67108864 bytes."
    )
    max_frame_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=64 * 1024,
        le=64 * 1024 * 1024,
        description="Largest frame of PushMedia, 65536 to 67108864 bytes.",
    )
    max_header_bytes: int = Field(
        default=24 * 1024,
        ge=8192,
        le=1024 * 1024,
        description="Largest gRPC metadata of a call, its token included, 8192 to 1048576 bytes.",
    )
    max_metadata_bytes: int = Field(
        default=16_384, ge=0, le=65_536, description="Largest metadata of a track as JSON, 0 to 65536 bytes."
    )
    max_metadata_depth: int = Field(
        default=16, ge=1, le=16, description="Objects and lists within one another in metadata of a track, 1 to 16."
    )
    max_metadata_keys: int = Field(
        default=512, ge=0, le=10_000, description="Keys in metadata of a track, at all depths, 0 to 10000."
    )
    max_metadata_key_bytes: int = Field(
        default=256, ge=1, le=4096, description="Longest key in metadata of a track, 1 to 4096 bytes."
    )
    max_participant_attributes_bytes: int = Field(
        default=65_536,
        ge=0,
        le=65_536,
        description="Attributes of a participant with the metadata of its tracks, names and values, 0 to 65536 bytes.",
    )
    max_metadata_changes_per_second_per_participant: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="Changes a second of the metadata of a participant's tracks, 1 to 10000.",
    )
    max_metadata_change_bytes_per_second_per_participant: int = Field(
        default=524_288,
        ge=1024,
        le=64 * 1024 * 1024,
        description="All attributes of a participant, times such changes a second, 1024 to 67108864 bytes.",
    )
    max_metadata_schemas: int = Field(
        default=1000, ge=0, le=100_000, description="Schemas of metadata on this server, 0 to 100000."
    )
    max_metadata_schemas_per_room: int = Field(
        default=20, ge=0, le=1000, description="Schemas of metadata of one room, and of those for all, 0 to 1000."
    )
    max_publications: int = Field(
        default=1000, ge=0, le=100_000, description="Publications of this server that have not ended, 0 to 100000."
    )
    max_publications_per_room: int = Field(
        default=200, ge=0, le=100_000, description="Publications of a room that have not ended, 0 to 100000."
    )
    max_publications_per_principal: int = Field(
        default=200,
        ge=0,
        le=100_000,
        description="Publications asked for by one caller that have not ended, 0 to 100000.",
    )
    max_egress: int = Field(
        default=1000, ge=0, le=100_000, description="Recordings of this server that have not ended, 0 to 100000."
    )
    max_egress_per_room: int = Field(
        default=200, ge=0, le=100_000, description="Recordings of a room that have not ended, 0 to 100000."
    )
    max_egress_rules_per_room: int = Field(
        default=20, ge=0, le=1000, description="Rules for recordings of one room, and of those for all, 0 to 1000."
    )
    max_subscription_policies_per_room: int = Field(
        default=500,
        ge=0,
        le=10_000,
        description="Subscription policies of one room, its own and those of subscribers, 0 to 10000.",
    )
    max_quality_policies_per_room: int = Field(
        default=500,
        ge=0,
        le=10_000,
        description="Quality policies of one room, its own and those of participants and tracks, 0 to 10000.",
    )
    max_webhook_subscriptions: int = Field(
        default=1000, ge=0, le=100_000, description="Webhook subscriptions of this server, 0 to 100000."
    )
    max_webhook_subscriptions_per_room: int = Field(
        default=20,
        ge=0,
        le=100_000,
        description="Webhook subscriptions of a room, and of all rooms together, 0 to 100000.",
    )
    max_webhook_subscriptions_per_principal: int = Field(
        default=100, ge=0, le=100_000, description="Webhook subscriptions made by one caller, 0 to 100000."
    )
    max_focuses_per_room: int = Field(
        default=5000, ge=0, le=100_000, description="Focuses of a room, those of its subscribers included, 0 to 100000."
    )
    max_moderation_blocks_per_room: int = Field(
        default=5000, ge=0, le=100_000, description="Moderation blocks of a room, 0 to 100000."
    )
    max_tracks_per_participant: int = Field(
        default=32, ge=0, le=10_000, description="Tracks of a participant, publications included, 0 to 10000."
    )
    max_tracks_per_room: int = Field(
        default=1000, ge=0, le=100_000, description="Tracks of a room, publications included, 0 to 100000."
    )
    max_track_bitrate_bps: int = Field(
        default=20_000_000,
        ge=6000,
        le=1_000_000_000,
        description="Highest bitrate of a track's full layer, 6000 to 1000000000 bits per second.",
    )
    max_participant_bitrate_bps: int = Field(
        default=100_000_000,
        ge=6000,
        le=100_000_000_000,
        description="Highest bitrate of a participant's publications together, 6000 to 100000000000 bits per second.",
    )
    max_room_bitrate_bps: int = Field(
        default=1_000_000_000,
        ge=6000,
        le=100_000_000_000,
        description="Highest bitrate of a room's publications together, 6000 to 100000000000 bits per second.",
    )
    max_pulls: int = Field(
        default=50,
        ge=0,
        le=10_000,
        description="Tracks that callers pull at once, 0 to 10000; each takes a media worker's session.",
    )
    max_pulls_per_room: int = Field(
        default=20, ge=0, le=10_000, description="Tracks of a room that callers pull at once, 0 to 10000."
    )
    max_pulls_per_principal: int = Field(
        default=20, ge=0, le=10_000, description="Tracks that one caller pulls at once, 0 to 10000."
    )
    max_video_pixels: int = Field(
        default=3840 * 2160,
        ge=256,
        le=100_000_000,
        description="Most pixels of a video track, width times height, 256 to 100000000.",
    )
