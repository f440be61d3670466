"""Who reads which part of the record of operations."""

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.refusals import refusal
from tests.servicer.records import DENIED, INVALID, asked, page, record, rpc
from tests.track_process import Client, TrackProcess
from track.v1 import tracks_pb2


async def test_filters_and_pages(admin: Client, room: str) -> None:
    for number in range(7):
        await admin.PublishTrack(asked(room, f"studio-{number}", validate_only=True), timeout=45)
    await refusal(
        admin.MuteTracks(
            tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid="TR_unknown")]), timeout=20
        )
    )
    newest = await page(admin, room=room, page_size=3)
    assert (len(newest.entries), rpc(newest.entries[0])) == (3, "MuteTracks")
    assert len(await record(admin, room, page_size=3)) == 8
    assert [rpc(entry) for entry in await record(admin, room, filter="entry.code != 0")] == ["MuteTracks"]
    chosen = await record(admin, room, filter='entry.targets.exists(t, t.participant_identity == "studio-3")')
    assert [entry.request["participant_identity"] for entry in chosen] == ["studio-3"]
    chosen = await record(admin, room, filter="entry.permission == Permission.PERMISSION_PUBLISH", page_size=2)
    assert len(chosen) == 7
    for query, reason in (
        ({"filter": "entry.nothing"}, "INVALID_EXPRESSION"),
        ({"page_token": newest.next_page_token, "filter": "true"}, "INVALID_PAGE_TOKEN"),
        ({"page_token": "x"}, "INVALID_PAGE_TOKEN"),
        ({"page_size": 1001}, "INVALID_FIELD"),
    ):
        refused = await refusal(page(admin, room=room, **query))
        assert (refused.code, refused.reason) == (INVALID, reason)


async def test_the_records_of_rooms_are_apart_and_none_tells_whether_a_room_exists(
    track: TrackProcess, admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    other = f"{room}-other"
    async with (
        existing_room(livekit, other),
        track.client("else", room_admin=True, room=other) as neighbour,
        track.client("alice", room_join=True, room=room) as member,
        track.client("dashboard", room_list=True) as service,
    ):
        await admin.PublishTrack(asked(room, "one", validate_only=True), timeout=45)
        await neighbour.PublishTrack(asked(other, "two", validate_only=True), timeout=45)
        token = (await page(service, room=other, page_size=1)).next_page_token
        denials = [
            await refusal(page(client, room=name, **query))
            for client, name, query in (
                (admin, other, {}),
                (admin, f"{room}-that-is-not", {}),
                (admin, other, {"filter": "entry.code == 0"}),
                (admin, other, {"page_token": token or "x"}),
                (admin, "", {}),
                (member, room, {}),
                (member, "", {}),
            )
        ]
        assert {denial.code for denial in denials} == {DENIED}
        assert denials[0].message == denials[1].message
        mine = await record(admin, room)
        assert other not in str(mine)
        assert "two" not in [entry.request["participant_identity"] for entry in mine if rpc(entry) == "PublishTrack"]
        assert await record(service, f"{room}-nothing") == []
        seen = {entry.room for entry in await record(service, "")}
        assert {room, other} <= seen
        assert {entry.room for entry in await record(service, other)} == {other}
