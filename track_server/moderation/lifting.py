"""Lifting and listing moderation blocks."""

from collections.abc import Sequence

from track.v1 import event_pb2, moderation_pb2
from track.v1.access_pb2 import PERMISSION_MUTE
from track.v1.moderation_pb2 import LiftModerationBlockResult, LiftModerationBlocksRequest, ModerationBlock
from track_server.access.access import Access
from track_server.access.bounds import Description
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.errors import BlockNotFound, TrackError
from track_server.moderation.blocks import Blocks
from track_server.moderation.enforcement import Enforcement
from track_server.moderation.selection import require_over_others
from track_server.paging import Position, page_of


class Lifting:
    """Answers LiftModerationBlocks and ListModerationBlocks."""

    def __init__(self, access: Access, blocks: Blocks, enforcement: Enforcement) -> None:
        self._access = access
        self._blocks = blocks
        self._enforcement = enforcement

    async def lift(
        self, principal: Principal, request: LiftModerationBlocksRequest, cause: event_pb2.EventCause
    ) -> list[LiftModerationBlockResult]:
        """One result a block, in order. Raises StoreError."""
        room = request.room
        found = [self._blocks.find(room, block_id) for block_id in request.block_ids]
        cleared = await self._access.require_each(principal, _questions(room, found))
        results = []
        for index, (block_id, block, answer) in enumerate(zip(request.block_ids, found, cleared, strict=True)):
            result = LiftModerationBlockResult(block_id=block_id)
            try:
                if isinstance(answer, TrackError):
                    raise answer
                require_over_others(principal, room, block.participant_identity if block is not None else "")
                # It may have ended while somebody decided.
                if block is None or (now := self._blocks.find(room, block_id)) is None:
                    raise BlockNotFound(f"no moderation block {block_id!r} in the room")
                last = self._blocks.shown(now) if request.validate_only else await self._enforcement.lift(now, cause)
                result.block.CopyFrom(last)
            except TrackError as error:
                result.problem.CopyFrom(error.problem(f"block_ids[{index}]"))
            results.append(result)
        return results

    def page(self, request: moderation_pb2.ListModerationBlocksRequest) -> moderation_pb2.ListModerationBlocksResponse:
        """A page, oldest first. Raises InvalidPageToken."""
        blocks, token = page_of(
            self._blocks.of_room(request.room, request.participant_identity),
            _position,
            size=request.page_size,
            token=request.page_token,
            query=("moderation_blocks", request.room, request.participant_identity),
        )
        shown = [self._blocks.shown(block) for block in blocks]
        return moderation_pb2.ListModerationBlocksResponse(blocks=shown, next_page_token=token)


def _questions(room: str, blocks: Sequence[ModerationBlock | None]) -> list[Question]:
    return [
        Question(PERMISSION_MUTE, room)
        if block is None
        else Question(
            PERMISSION_MUTE,
            room,
            block.participant_identity,
            described=Description(type=block.type, source=block.source),
        )
        for block in blocks
    ]


def _position(block: ModerationBlock) -> Position:
    return block.create_time.ToNanoseconds(), block.block_id
