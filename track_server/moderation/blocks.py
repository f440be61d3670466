"""The moderation blocks: the one owner of them, in memory and in the store."""

import secrets
import time
from dataclasses import dataclass
from typing import Final

from google.protobuf import timestamp_pb2

from track.v1 import event_pb2
from track.v1.moderation_pb2 import ModerationBlock
from track.v1.track_pb2 import Track
from track_server.durations import seconds_of
from track_server.errors import LimitExceeded
from track_server.moderation.subjects import Subject
from track_server.rooms.rooms import Rooms
from track_server.store.records import Store, StoreError

_KIND: Final = "moderation_block"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a caller says of a block. ``expire_time``: in seconds since 1970, or None."""

    reason: str
    expire_time: float | None
    creator_identity: str


class Blocks:
    """All blocks by room. Messages in it are never changed in place, and have no `track_sids`: see ``shown``.

    ``most``: blocks that a room may have.
    """

    def __init__(self, rooms: Rooms, store: Store, *, most: int) -> None:
        self._rooms = rooms
        self._store = store
        self._most = most
        self._blocks: dict[str, dict[Subject, ModerationBlock]] = {}

    async def load(self) -> None:
        """Reads what an earlier run left."""
        for record in await self._store.list(_KIND):
            self._take(ModerationBlock.FromString(record.body))

    def rooms(self) -> list[str]:
        """Rooms that have any."""
        return list(self._blocks)

    def concerns(self, room: str) -> bool:
        """Whether the room has any."""
        return room in self._blocks

    def of_room(self, room: str, identity: str = "") -> list[ModerationBlock]:
        """The room's, or one participant's in it, oldest first; those whose time has come are left out."""
        found = self._blocks.get(room, {}).values()
        now = time.time()
        return [
            block
            for block in found
            if not identity or block.participant_identity == identity
            if not (block.HasField("expire_time") and seconds_of(block.expire_time) <= now)
        ]

    def find(self, room: str, block_id: str) -> ModerationBlock | None:
        """The block of that id; None also where its time has come."""
        return next((block for block in self.of_room(room) if block.block_id == block_id), None)

    def kept(self, room: str) -> list[ModerationBlock]:
        """The room's, also those whose time has come and that are not removed yet."""
        return list(self._blocks.get(room, {}).values())

    def holding(self, track: Track) -> ModerationBlock | None:
        """The block that holds the track."""
        block = self._blocks.get(track.room, {}).get(Subject.of_track(track))
        if block is None or (block.HasField("expire_time") and seconds_of(block.expire_time) <= time.time()):
            return None
        return block

    def shown(self, block: ModerationBlock) -> ModerationBlock:
        """The block with the SIDs that it holds now, as far as the room is watched."""
        live = self._rooms.find(block.room)
        whole = ModerationBlock()
        whole.CopyFrom(block)
        if live is not None:
            subject = Subject.of_block(block)
            tracks = live.model.tracks_of(block.participant_identity)
            whole.track_sids.extend(track.sid for track in tracks if Subject.of_track(track) == subject)
        return whole

    def contribute(self, room: str, snapshot: event_pb2.RoomSnapshot) -> None:
        """Fills in the room's blocks, oldest first."""
        snapshot.moderation_blocks.extend(self.shown(block) for block in self.of_room(room))

    def drawn(self, track: Track, terms: Terms) -> ModerationBlock:
        """The block that ``set`` would make; without an id where there is none yet."""
        subject, known = Subject.of_track(track), self.holding(track)
        block = ModerationBlock(room=track.room, create_time=_stamp(time.time()))
        if known is not None:
            block.CopyFrom(known)
        subject.fill(block)
        block.reason, block.creator_identity = terms.reason, terms.creator_identity
        block.ClearField("expire_time")
        if terms.expire_time is not None:
            block.expire_time.CopyFrom(_stamp(terms.expire_time))
        return block

    async def set(self, track: Track, terms: Terms) -> ModerationBlock:
        """Blocks what the track is of, or changes the block that there is; it is stored then.

        Raises LimitExceeded, StoreError; then all is as before.
        """
        room, subject = track.room, Subject.of_track(track)
        before = self._blocks.get(room, {}).get(subject)
        if before is None and len(self._blocks.get(room, {})) >= self._most:
            raise LimitExceeded("max_moderation_blocks_per_room", self._most, f"room {room}")
        block = self.drawn(track, terms)
        block.block_id = block.block_id or f"BLK_{secrets.token_hex(10)}"
        # Known before it is stored, so that two calls at once set one block.
        self._take(block)
        try:
            await self._write(block)
            if before is not None and before.block_id != block.block_id:
                await self._store.delete(_KIND, room, before.block_id)
        except StoreError:
            if self._blocks.get(room, {}).get(subject) is block:
                self._drop(block)
                if before is not None:
                    self._take(before)
            raise
        return block

    def count(self, block: ModerationBlock) -> ModerationBlock | None:
        """It was enforced once more; None where it is there no more. To be `kept` then."""
        known = self.find(block.room, block.block_id)
        if known is None:
            return None
        counted = ModerationBlock()
        counted.CopyFrom(known)
        counted.enforcements += 1
        self._take(counted)
        return counted

    async def keep(self, block: ModerationBlock) -> None:
        """Stores a count. Raises StoreError."""
        await self._write(block)

    async def remove(self, block: ModerationBlock) -> bool:
        """Takes the block out, also of the store; says whether it was there.

        Raises StoreError; it is out all the same.
        """
        known = self._blocks.get(block.room, {}).get(Subject.of_block(block))
        if known is None or known.block_id != block.block_id:
            return False
        self._drop(known)
        await self._store.delete(_KIND, block.room, block.block_id)
        return True

    def forget(self, room: str) -> list[ModerationBlock]:
        """Takes all of the room out; they are to be `deleted` then."""
        return list(self._blocks.pop(room, {}).values())

    async def deleted(self, block: ModerationBlock) -> None:
        """Takes a forgotten block out of the store. Raises StoreError."""
        await self._store.delete(_KIND, block.room, block.block_id)

    async def _write(self, block: ModerationBlock) -> None:
        await self._store.put(_KIND, block.room, block.block_id, block.SerializeToString())

    def _take(self, block: ModerationBlock) -> None:
        self._blocks.setdefault(block.room, {})[Subject.of_block(block)] = block

    def _drop(self, block: ModerationBlock) -> None:
        blocks = self._blocks.get(block.room, {})
        blocks.pop(Subject.of_block(block), None)
        if not blocks:
            self._blocks.pop(block.room, None)


def _stamp(seconds: float) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
