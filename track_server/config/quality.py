"""Settings of the quality of tracks: what is kept of it."""

from typing import Literal

from pydantic import Field

from track_server.config.environment import Environment


class QualitySettings(Environment):
    """How much is kept of alerts and of the history, and which metrics name rooms and tracks."""

    quality_alert_retention_hours: float = Field(
        default=168, gt=0, le=8760, description="How long quality alerts that ended are kept, up to 8760 hours."
    )
    quality_alerts_per_room: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Most quality alerts that ended kept of a room, 1 to 1000000; the oldest go first.",
    )
    quality_history_max_megabytes: int = Field(
        default=1024,
        ge=1,
        le=1_000_000,
        description=(
            "Most MiB of the history of quality in the store, of all rooms, for points of 5 s and of 60 s each, 1 to"
            " 1000000; the oldest go first."
        ),
    )
    quality_history_max_megabytes_per_room: int = Field(
        default=32,
        ge=1,
        le=10_000,
        description="Likewise of one room, 1 to 10000.",
    )
    quality_action_retention_hours: float = Field(
        default=168, gt=0, le=8760, description="How long actions of adaptation are kept, up to 8760 hours."
    )
    quality_actions_per_room: int = Field(
        default=5000,
        ge=1,
        le=100_000,
        description="Most actions of adaptation kept of a room, 1 to 100000; the oldest go first.",
    )
    quality_attainment_metrics: Literal["off", "rooms", "tracks"] = Field(
        default="off",
        description="Whether metrics tell the attainment of each room, and of each track: off, rooms or tracks.",
    )
