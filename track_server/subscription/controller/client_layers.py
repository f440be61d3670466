"""What a subscriber's own client is told about layers, through its companion."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from track.control.v1 import control_pb2 as control
from track_server.control.commands import MAX_PAYLOAD_BYTES, Target
from track_server.control.companion import Companion
from track_server.deadline import Deadline
from track_server.errors import LiveKitUnavailable

ABSENT: Final = "track_sid"
"""Named in the place of a setting: the client does not know the track yet, and took nothing of it."""

# Of a command without its settings, signature and all: less than 1 KiB, with names of the longest rooms and identities.
_FRAME_BYTES: Final = 3 * 1024
# Settings become a string in a string, where each quotation mark counts twice.
_LONGEST_BYTES: Final = 400
_AT_ONCE: Final = (MAX_PAYLOAD_BYTES - _FRAME_BYTES) // _LONGEST_BYTES

_CAPITAL: Final = re.compile(r"(?<!^)([A-Z])")


class ClientLayers:
    """Tells companions how tracks are to be received."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion

    async def apply(
        self, target: Target, settings: Sequence[control.ReceivedSettings], deadline: Deadline
    ) -> frozenset[tuple[str, str]]:
        """Has that connection's client receive those tracks so, each named once; one command for all, or as few as
        LiveKit's 15 KiB allow. Returns once the client has made them.

        Returns what the client could not make, as pairs of track SID and the setting's name in ReceivedSettings;
        ABSENT in its place: the client does not know the track, which it may a moment later. Raises CompanionMissing,
        CompanionFailed, NotSupported, ConsentRefused (the app's veto), and LiveKitUnavailable where the client does
        not answer until the deadline; what was asked may be done all the same.
        """
        unsupported: set[tuple[str, str]] = set()
        for part in _parts(settings):
            reply = await self._companion.do(target, control.SetReceived(tracks=part), deadline)
            if reply.status != control.COMMAND_STATUS_DONE:
                raise LiveKitUnavailable("the participant's client did not answer in time")
            asked = {each.track_sid for each in part}
            for entry in reply.result.unsupported:
                sid, _, name = entry.rpartition(".")
                name = _CAPITAL.sub(r"_\1", name).lower()
                # What a client says is not ours: a name that is none of the contract's is left out.
                if sid in asked and name in control.ReceivedSettings.DESCRIPTOR.fields_by_name:
                    unsupported.add((sid, name))
        return frozenset(unsupported)


def _parts(settings: Sequence[control.ReceivedSettings]) -> Iterator[Sequence[control.ReceivedSettings]]:
    for begin in range(0, len(settings), _AT_ONCE):
        yield settings[begin : begin + _AT_ONCE]
