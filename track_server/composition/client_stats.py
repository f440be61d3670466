"""What clients measure: by their companions, and through ReportTrackStats."""

from track_server.composition.authority import Authority
from track_server.composition.foundation import Foundation
from track_server.composition.quality import Measured
from track_server.composition.states import Reported
from track_server.quality.reporting.companions import CompanionStats
from track_server.quality.reporting.reporting import StatsReporting


def hearing_clients(ground: Foundation, authority: Authority, measured: Measured, reported: Reported) -> StatsReporting:
    """Has companions measure where somebody follows a room, and answers ReportTrackStats."""
    CompanionStats(ground.rooms, measured.assessing, reported.attendance, reported.states)
    return StatsReporting(ground.rooms, ground.reader, authority.access, measured.assessing)
