"""A child that takes frames, and goes."""

import asyncio
from pathlib import Path

from track_server.publishing.push.connection import Connection
from track_server.publishing.push.sequence import Frame
from track_server.pushwire import Kind


async def test_a_frame_for_a_child_that_has_just_gone_is_lost_and_breaks_nothing(tmp_path: Path) -> None:
    came: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.get_running_loop().create_future()
    path = str(tmp_path / "push.sock")
    async with await asyncio.start_unix_server(lambda reader, writer: came.set_result((reader, writer)), path):
        _, child = await asyncio.open_unix_connection(path)
        reader, writer = await came
        connection = Connection(reader, writer, 1000)
        child.transport.abort()
        connection.close()
        await writer.wait_closed()
        # Nobody has read the end yet.
        connection.send(Frame(b"frame", 0, key=True))
        connection.say(Kind.END)
        assert (connection.frames_on_the_way, connection.window.on_the_way) == (1, 5)
        await asyncio.wait_for(connection.listen(None), 30)  # type: ignore[arg-type]  # there is nothing to tell
