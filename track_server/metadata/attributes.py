"""Metadata of tracks as attributes of their publisher. Pure."""

from collections.abc import Mapping
from typing import Final

PREFIX: Final = "track.metadata."
"""Before the SID of a track: name of the attribute that has its metadata as JSON. All such names are this service's."""


def name_of(track_sid: str) -> str:
    """The attribute of that track."""
    return PREFIX + track_sid


def written(attributes: Mapping[str, str], track_sid: str) -> str:
    """What is published of that track; empty: nothing."""
    return attributes.get(name_of(track_sid), "")


def changes(desired: Mapping[str, str], attributes: Mapping[str, str]) -> dict[str, str]:
    """What to write so that the attributes have what is ``desired`` (text by SID) and nothing else of ours.

    LiveKit deletes an attribute whose value is empty.
    """
    wanted = {name_of(sid): text for sid, text in desired.items()}
    gone = {name: "" for name in attributes if name.startswith(PREFIX) and name not in wanted}
    return gone | {name: text for name, text in wanted.items() if attributes.get(name) != text}


def total_bytes(desired: Mapping[str, str], attributes: Mapping[str, str]) -> int:
    """All attributes of the participant, names and values, once ``changes`` are made."""
    others = {name: value for name, value in attributes.items() if not name.startswith(PREFIX)}
    everything = others | {name_of(sid): text for sid, text in desired.items()}
    return sum(len(name.encode()) + len(value.encode()) for name, value in everything.items())
