"""Data messages: a publication without a SID, and who receives what of it."""

import contextlib
from collections.abc import AsyncIterator

from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.participants import participant
from tests.publications import LIVE, OBSERVED, publication, unpublish
from tests.receivers import eventually
from tests.track_process import Client
from track.v1 import publication_pb2 as pb
from track.v1 import tracks_pb2

RELIABLE = pb.DATA_DELIVERY_RELIABLE_MESSAGES
LOSSY = pb.DATA_DELIVERY_LOSSY_MESSAGES


class Mailbox:
    """The data messages that a participant has received."""

    def __init__(self, room: rtc.Room) -> None:
        self.packets: list[rtc.DataPacket] = []
        room.on("data_received", self.packets.append)

    def numbers(self, topic: str) -> list[int]:
        """The numbers of the frames that came under a topic, as they came."""
        return [int.from_bytes(found.data[:8], "big") for found in self.packets if found.topic == topic]

    def senders(self) -> set[str]:
        """Those that are known."""
        return {found.participant.identity for found in self.packets if found.participant is not None}

    async def has(self, count: int, topic: str) -> list[int]:
        """Waits for that many."""
        await eventually(lambda: len(self.numbers(topic)) >= count, lambda: f"{len(self.packets)} packets")
        return self.numbers(topic)


@contextlib.asynccontextmanager
async def mailbox(livekit: LiveKitProcess, room: str, identity: str) -> AsyncIterator[Mailbox]:
    """A participant with a mailbox."""
    async with participant(livekit, room, identity) as joined:
        yield Mailbox(joined)


async def send(client: Client, room: str, data: pb.DataInput, **options: object) -> pb.PublishTrackResponse:
    """Publishes data messages."""
    spec = pb.PublicationSpec(data=data, data_options=pb.DataOptions(**options), name="news")  # type: ignore[arg-type]
    request = pb.PublishTrackRequest(room=room, spec=spec, participant_identity="sender")
    answer: pb.PublishTrackResponse = await client.PublishTrack(request, timeout=30)
    return answer


async def test_reliable_messages_arrive_all_in_order_under_their_topic(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with mailbox(livekit, room, "reader") as box:
        answer = await send(
            admin, room, pb.DataInput(frames_per_second=100, frame_bytes=200), delivery=RELIABLE, topic="ticks"
        )
        numbers = await box.has(150, "ticks")
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        packet = box.packets[-1]
        assert len(packet.data) == 200
        assert packet.kind == rtc.DataPacketKind.KIND_RELIABLE
        # A participant without tracks is told to the others some seconds later.
        await eventually(lambda: box.senders() == {"sender"}, lambda: str(box.senders()))
        ended = await unpublish(admin, answer.publication)
        assert ended.publication.end_cause == pb.PUBLICATION_END_CAUSE_CALLER


async def test_lossy_messages_arrive_under_the_name_of_the_publication(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with mailbox(livekit, room, "reader") as box:
        answer = await send(admin, room, pb.DataInput(frames_per_second=50), delivery=LOSSY)
        assert answer.publication.spec.data_options.topic == "news"
        assert answer.publication.spec.data_options.ordered is False
        await box.has(30, "news")
        assert box.packets[-1].kind == rtc.DataPacketKind.KIND_LOSSY


async def test_messages_are_live_without_a_sid_and_in_no_list_of_tracks(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with mailbox(livekit, room, "reader") as box:
        answer = await send(admin, room, pb.DataInput(frames_per_second=20), delivery=RELIABLE)
        assert (answer.stage, answer.evidence) == (OBSERVED, pb.EVIDENCE_HOSTED_SESSION)
        assert answer.publication.state == LIVE
        assert not answer.publication.track_sid
        assert not answer.publication.lineage
        listed = await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room))
        assert not listed.tracks
        # For longer than a track may be missing: nobody takes it for one that has vanished.
        await box.has(80, "news")
    found = await publication(admin, room, answer.publication.publication_id)
    states = [move.state for move in found.moves]
    assert states == [pb.PUBLICATION_STATE_PENDING, pb.PUBLICATION_STATE_STARTING, LIVE]


async def test_messages_reach_those_alone_that_they_are_for(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with mailbox(livekit, room, "one") as one, mailbox(livekit, room, "other") as other:
        payload = '{"für": "one"}'.encode()
        await send(
            admin,
            room,
            pb.DataInput(frames_per_second=50, payload=payload),
            delivery=RELIABLE,
            destination_identities=["one"],
            payload_type=pb.PAYLOAD_TYPE_JSON,
        )
        await send(admin, room, pb.DataInput(frames_per_second=50), delivery=RELIABLE, topic="all")
        # Reliable messages of one sender come in order: what was for the other one would have come before these.
        await other.has(30, "all")
        await one.has(30, "news")
        assert {packet.topic for packet in other.packets} == {"all"}
        assert {packet.data for packet in one.packets if packet.topic == "news"} == {payload}
