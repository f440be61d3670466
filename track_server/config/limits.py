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
    max_video_pixels: int = Field(
        default=3840 * 2160,
        ge=256,
        le=100_000_000,
        description="Most pixels of a video track, width times height, 256 to 100000000.",
    )
