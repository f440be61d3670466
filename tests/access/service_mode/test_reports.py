"""What is reported to the permission service: where LiveKit and its decisions do not agree."""

from tests.access.service_mode.service import ALICE, MUTE, READ, ROOM, Running, until
from tests.permission_peer import denied
from track.permission.v1 import permission_service_pb2 as pb
from track.v1.track_pb2 import TrackSource
from track_server.access.bounds import Description
from track_server.access.question import Question


async def test_what_livekit_refused_and_what_its_grants_would_allow_is_reported_once(service: Running) -> None:
    question = Question(MUTE, "a", "alice", "TR_1", Description(source=TrackSource.TRACK_SOURCE_CAMERA))
    for _ in range(3):
        service.access.refused(ALICE, question, "LiveKit said no")
    await until(lambda: service.peer.reports)
    (report,) = service.peer.reports
    assert (report.issue, report.detail) == (pb.PERMISSION_ISSUE_ALLOWED_BUT_REFUSED, "LiveKit said no")
    assert (report.check.principal, report.check.permission) == (ALICE.message, MUTE)
    assert (report.check.track_sid, report.request_id) == ("TR_1", "call-1")
    assert report.time.seconds > 0
    service.peer.decide = lambda question: denied(lifetime_s=0)
    for _ in range(3):
        await service.fails(question)
    await until(lambda: len(service.peer.reports) == 2)
    assert service.peer.reports[1].issue == pb.PERMISSION_ISSUE_DENIED_BUT_GRANTED
    # Somebody else's track: LiveKit's grants would not allow it either.
    await service.fails(Question(MUTE, "a", "bob"))
    await service.fails(ROOM)
    await until(lambda: len(service.peer.reports) == 3)
    assert [report.check.permission for report in service.peer.reports] == [MUTE, MUTE, READ]
    await until(lambda: service.access.counts.reports_sent == 3)
    assert service.access.counts.reports_dropped == 0


async def test_reports_that_are_too_many_are_dropped_and_counted(service: Running) -> None:
    for number in range(1500):
        service.access.refused(ALICE, Question(MUTE, "a", f"p{number}"), "no")
    assert service.access.counts.reports_dropped == 500
    await until(lambda: service.access.counts.reports_sent == 1000)


async def test_reports_that_nobody_takes_are_dropped_and_counted(service: Running) -> None:
    await service.peer.stop()
    service.access.refused(ALICE, ROOM, "no")
    await until(lambda: service.access.counts.reports_dropped == 1)
