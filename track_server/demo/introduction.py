"""How to call the demo's TrackService from another terminal."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from track_server.demo.board import Board
from track_server.demo.programme import PATTERN
from track_server.demo.service import ROOM, Service


@dataclass(frozen=True, slots=True)
class Introduction:
    """Where the demo's servers are, and commands to paste."""

    address: str
    livekit_url: str
    token_file: Path
    grpcurl: str
    """The program, as a command line has it."""

    def calls(self, board: Board, width: int) -> list[str]:
        """grpcurl commands that work while the demo runs, as lines of up to ``width`` columns that can be pasted."""
        calls = [self._call("ListTracks", f'{{"room": "{ROOM}"}}', width)]
        publication = board.publication(PATTERN)
        if publication is not None and publication.track_sid:
            items = f'{{"room": "{ROOM}", "tracks": [{{"track_sid": "{publication.track_sid}"}}]}}'
            calls += [self._call(method, items, width) for method in ("MuteTracks", "UnmuteTracks")]
        return calls

    def _call(self, method: str, request: str, width: int) -> str:
        parts = (
            f"{self.grpcurl} -plaintext",
            f'-H "authorization: Bearer $(cat {self.token_file})"',
            f"-d '{request}'",
            f"{self.address} track.v1.TrackService/{method}",
        )
        lines = [parts[0]]
        for part in parts[1:]:
            # Room for the backslash that joins the lines.
            if len(lines[-1]) + len(part) + 3 <= width:
                lines[-1] += f" {part}"
            else:
                lines[-1] += " \\"
                lines.append(f"  {part}")
        return "\n".join(lines)


def introduction(service: Service, livekit_url: str, livekit_server: str) -> Introduction:
    """With the grpcurl that is on PATH, or that `make tools` has put beside ``livekit_server``."""
    beside = os.path.relpath(os.path.join(os.path.dirname(livekit_server), "grpcurl"))
    grpcurl = beside if shutil.which("grpcurl") is None and os.access(beside, os.X_OK) else "grpcurl"
    return Introduction(service.address, livekit_url, service.token_file, grpcurl)
