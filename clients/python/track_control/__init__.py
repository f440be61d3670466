"""The companion of TrackService for Python: the service publishes, changes and restarts tracks of an app's own room."""

from track_control.companion import Ask, Request, TrackControl, attach_track_control
from track_control.state import State
from track_control.tracks import Open, Source

__all__ = ["Ask", "Open", "Request", "Source", "State", "TrackControl", "attach_track_control"]
