"""The figures of `make bench`: what TrackService costs beside a floor or a peer, as ratios of one run."""
