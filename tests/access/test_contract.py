"""The table of permissions in README.md is that of the contract."""

import re
from pathlib import Path

from track.v1 import access_pb2, track_service_pb2

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_table_names_every_rpc_with_its_declared_permission() -> None:
    section = README.read_text().split("## Who may do what")[1].split("\n## ")[0]
    written: dict[str, str] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            written |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), f"PERMISSION_{cells[1]}")
    declared = {
        method.name: access_pb2.Permission.Name(method.GetOptions().Extensions[access_pb2.access].permission)
        for method in track_service_pb2.DESCRIPTOR.services_by_name["TrackService"].methods
    }
    assert written == declared
