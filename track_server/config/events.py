"""Settings of the event log."""

from pydantic import Field

from track_server.config.environment import Environment


class EventSettings(Environment):
    """How much is kept of the events of rooms, for streams that resume."""

    event_retention_hours: float = Field(
        default=24, gt=0, le=8760, description="How long events are kept for streams that resume, up to 8760 hours."
    )
    event_max_megabytes: int = Field(
        default=1024,
        ge=1,
        le=1_000_000,
        description="Most MiB of events in the store, of all rooms, 1 to 1000000; the oldest go first.",
    )
    event_max_megabytes_per_room: int = Field(
        default=16,
        ge=1,
        le=10_000,
        description="Most MiB of events of one room, in memory and in the store, 1 to 10000; the oldest go first.",
    )
