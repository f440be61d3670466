"""What clients measure: told by their companions, and through ReportTrackStats."""
