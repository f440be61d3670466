"""Whose fault it is. Pure.

The publisher's own numbers tell its uplink. Without them its subscribers do: LiveKit hands on what arrived, gaps
included, so several that suffer alike point at the publisher, and one alone at itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.reading import Flow, Hop

SHARED: Final = 0.6
"""From this share of a track's subscribers on, they suffer alike."""

LEAST: Final = 2
"""So many of them, at least, have to."""

_DEVICE: Final = frozenset({AlertKind.CPU, AlertKind.STUCK_DECODER, AlertKind.SILENT_SOURCE, AlertKind.BLACK_SOURCE})
_LOSS: Final = frozenset({AlertKind.NETWORK_LOSS, AlertKind.SEVERE_LOSS})
_HEARD: Final = frozenset({AlertKind.BAD_AUDIO})
_LATE: Final = frozenset({AlertKind.DELAY, AlertKind.CONGESTION, AlertKind.LOW_BANDWIDTH})
_GONE: Final = frozenset({AlertKind.STALLED, AlertKind.INTERRUPTED})
_ALIKE: Final = (_LOSS, _HEARD, _LATE, _GONE, _DEVICE)


class Fault(IntEnum):
    """Where the cause lies."""

    UNKNOWN = 1
    PUBLISHER_UPLINK = 2
    SUBSCRIBER_DOWNLINK = 3
    DEVICE = 4
    SERVER = 5


@dataclass(frozen=True, slots=True)
class Sufferer:
    """One track on one hop. ``alerts``: those that are on. ``measured``: whether anything is told of it of late;
    ``ceased``: whether something was until just now, and ought to be. ``publisher``: the track's, where it is known."""

    flow: Flow
    publisher: str
    alerts: frozenset[AlertKind]
    measured: bool
    ceased: bool = False


class Attribution:
    """Who suffers in a room at one moment. O(n) to make, O(1) to ask but for one track's subscribers."""

    def __init__(self, sufferers: Mapping[Flow, Sufferer]) -> None:
        self._all = sufferers
        self._downlinks: dict[str, list[Sufferer]] = {}
        self._received: dict[str, list[Sufferer]] = {}
        self._uplinks: dict[str, Sufferer] = {}
        self._ceased = {flow.track_sid for flow, each in sufferers.items() if each.ceased and flow.hop is Hop.UPLINK}
        for flow, sufferer in sufferers.items():
            if not sufferer.measured:
                continue
            if flow.hop is Hop.UPLINK:
                self._uplinks[flow.track_sid] = sufferer
            else:
                self._downlinks.setdefault(flow.track_sid, []).append(sufferer)
                self._received.setdefault(flow.identity, []).append(sufferer)

    def fault(self, flow: Flow, kind: AlertKind) -> Fault:
        """Whose fault an alert of ``kind`` on ``flow`` is."""
        alike = next((kinds for kinds in _ALIKE if kind in kinds), frozenset({kind}))
        if alike is _HEARD and self._all[flow].alerts & _LOSS:
            # It is heard because packets are lost. Others may hear bad sound for other reasons.
            alike = _LOSS
        if flow.hop is Hop.UPLINK:
            return Fault.DEVICE if kind in _DEVICE else self._of_uplink(flow, alike)
        uplink = self._uplinks.get(flow.track_sid)
        if uplink is not None and uplink.alerts & (alike | _GONE | _LOSS):
            return self._of_uplink(uplink.flow, alike)
        if alike is _GONE and flow.track_sid in self._ceased:
            return Fault.PUBLISHER_UPLINK
        subscribers = self._downlinks.get(flow.track_sid, [])
        suffering = sum(1 for each in subscribers if each.alerts & alike)
        shared = suffering >= LEAST and suffering >= SHARED * len(subscribers)
        if shared:
            if alike is _HEARD:
                # Sound that is made up though no packets are lost comes of late ones, or of busy machines.
                return Fault.UNKNOWN
            if uplink is not None:
                return Fault.SERVER
            return Fault.DEVICE if kind in _DEVICE else Fault.PUBLISHER_UPLINK
        if kind in _DEVICE:
            return Fault.DEVICE
        if len(subscribers) > suffering or uplink is not None:
            return Fault.SUBSCRIBER_DOWNLINK
        return self._of_the_only_one(flow, alike)

    def _of_uplink(self, flow: Flow, alike: frozenset[AlertKind]) -> Fault:
        """The publisher's, or the server's, where the tracks of several publishers suffer together on their way in."""
        publisher = self._all[flow].publisher
        others = [each for each in self._uplinks.values() if each.publisher != publisher]
        suffering = sum(1 for each in others if each.alerts & alike)
        return Fault.SERVER if suffering >= LEAST and suffering >= SHARED * len(others) else Fault.PUBLISHER_UPLINK

    def _of_the_only_one(self, flow: Flow, alike: frozenset[AlertKind]) -> Fault:
        """A track that nobody else is known to receive: what its subscriber's other tracks, of others, are like."""
        others = [
            each
            for each in self._received.get(flow.identity, [])
            if each.publisher and each.publisher != self._all[flow].publisher
        ]
        if not others:
            return Fault.UNKNOWN
        suffering = sum(1 for each in others if each.alerts & alike)
        if suffering >= SHARED * len(others):
            return Fault.SUBSCRIBER_DOWNLINK
        return Fault.PUBLISHER_UPLINK if not suffering else Fault.UNKNOWN
