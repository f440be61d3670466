"""What WatchEvents tells of the room itself: its metadata, and that it is recorded."""

from livekit import api

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import livekit_api
from tests.streams import events
from tests.track_process import Client


async def describe(livekit: LiveKitProcess, room: str, metadata: str) -> None:
    """Gives the room that metadata, as an application does."""
    async with livekit_api(livekit) as server:
        await server.room.update_room_metadata(api.UpdateRoomMetadataRequest(room=room, metadata=metadata))


async def test_the_rooms_metadata_is_in_the_snapshot_and_a_change_of_it_is_an_event(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    await describe(livekit, room, "one")
    async with events(admin, room) as stream:
        snapshot = await stream.snapshot()
        assert snapshot.state.metadata == "one"
        assert snapshot.state.sid == snapshot.room_sid
        assert not snapshot.state.active_recording
        await describe(livekit, room, "two")
        updated = await stream.until("room_updated")
        assert (updated.metadata, updated.sid) == ("two", snapshot.room_sid)
    async with events(admin, room) as stream:
        assert (await stream.snapshot()).state.metadata == "two"
