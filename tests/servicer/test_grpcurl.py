"""The service as people call it: grpcurl, through reflection."""

import asyncio
import json
from pathlib import Path

from tests.track_process import TrackProcess
from track.v1 import track_service_pb2

SERVICE = "track.v1.TrackService"


async def run(program: Path, *arguments: str) -> tuple[int, str, str]:
    """Runs it; exit status, output, errors."""
    process = await asyncio.create_subprocess_exec(
        program, "-plaintext", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(45):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_services_are_listed_and_described(track: TrackProcess, grpcurl: Path) -> None:
    status, output, _ = await run(grpcurl, track.address, "list")
    assert status == 0
    assert {SERVICE, "grpc.health.v1.Health"} <= set(output.split())
    _, output, _ = await run(grpcurl, track.address, "list", SERVICE)
    methods = track_service_pb2.DESCRIPTOR.services_by_name["TrackService"].methods
    rpcs = {f"{SERVICE}.{method.name}" for method in methods}
    assert set(output.split()) == rpcs
    status, output, errors = await run(grpcurl, track.address, "describe", f"{SERVICE}.PublishTrack")
    assert status == 0, errors
    assert "PublishTrackRequest" in output
    assert "PERMISSION_PUBLISH" in output
    status, output, _ = await run(grpcurl, track.address, "describe", "track.v1.PublicationSpec")
    assert status == 0
    assert "test_pattern" in output


async def test_a_call_is_answered_and_a_bad_one_explained(track: TrackProcess, grpcurl: Path, room: str) -> None:
    bearer = f"authorization: Bearer {track.token('admin', room_admin=True, room=room)}"
    request = json.dumps({"room": room, "spec": {"data": {}}, "participant_identity": "studio"})
    status, output, errors = await run(grpcurl, "-H", bearer, "-d", request, track.address, f"{SERVICE}/PublishTrack")
    assert status == 0, errors
    answer = json.loads(output)
    assert answer["stage"] == "STAGE_OBSERVED"
    query = json.dumps({"room": room, "filter": "track.nme == 'x'"})
    status, _, errors = await run(grpcurl, "-H", bearer, "-d", query, track.address, f"{SERVICE}/ListTracks")
    assert status != 0
    assert "Code: InvalidArgument" in errors
    details = ("google.rpc.ErrorInfo", "INVALID_EXPRESSION", "google.rpc.BadRequest", '"filter"', '"column": "6"')
    for expected in details:
        assert expected in errors
    status, _, errors = await run(grpcurl, "-d", query, track.address, f"{SERVICE}/ListTracks")
    assert status != 0
    assert "Code: Unauthenticated" in errors


async def test_health_is_asked_like_any_service(track: TrackProcess, grpcurl: Path) -> None:
    request = json.dumps({"service": SERVICE})
    status, output, _ = await run(grpcurl, "-d", request, track.address, "grpc.health.v1.Health/Check")
    assert status == 0
    assert json.loads(output) == {"status": "SERVING"}
