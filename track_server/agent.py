"""Names that the server and its media workers agree on."""

from typing import Final

AGENT_NAME: Final = "track-media"
"""Under which workers register with LiveKit, and jobs are dispatched."""

SESSION_ATTRIBUTE: Final = "track.session_id"
"""Attribute of a hosted participant: the id of its session. It tells ours from another of the same identity."""

REGISTERED: Final = "registered"
"""Line that a supervised worker writes to its standard output whenever LiveKit knows it."""
