"""Settings of the record of operations."""

from pydantic import Field

from track_server.config.environment import Environment


class RecordSettings(Environment):
    """How long the record of operations is kept."""

    audit_retention_days: float = Field(
        default=30, gt=0, le=3650, description="How long entries of the record are kept, up to 3650 days."
    )
    audit_max_entries: int = Field(
        default=1_000_000,
        ge=100,
        le=100_000_000,
        description="Most entries of the record, 100 to 100000000; the oldest go first.",
    )
