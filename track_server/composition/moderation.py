"""Moderation: blocks, mutes that end, what holds them, permissions that are withheld, questions to participants."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from prometheus_client import Counter

from track_server.access.question import Touch
from track_server.audit.recorder import Recorder
from track_server.composition.authority import Authority
from track_server.composition.foundation import Foundation
from track_server.composition.lives import living
from track_server.moderation.asking import Questions
from track_server.moderation.blocks import Blocks
from track_server.moderation.enforcement import Enforcement
from track_server.moderation.lifting import Lifting
from track_server.moderation.mutes import Held, Mutes
from track_server.moderation.timed import TimedMutes
from track_server.moderation.unmuting import ByHost, Stalls, Unmuting
from track_server.rooms.withholding import Withholding


@dataclass(frozen=True, slots=True)
class Moderated:
    """The parts."""

    mutes: Mutes
    lifting: Lifting
    questions: Questions
    held: Held
    withholding: Withholding

    async def restore(self) -> None:
        """Begins what an earlier run left."""
        await self.withholding.restore()
        self.held.enforcement.restore()
        self.held.timed.restore()
        self.held.lives.restore()


@contextlib.asynccontextmanager
async def moderating(
    ground: Foundation, authority: Authority, stalls: Stalls, by_host: ByHost
) -> AsyncIterator[Moderated]:
    """Moderation for the span of the block. What an earlier run left is read, and begun by ``restore``.

    ``stalls`` and ``by_host``: see Unmuting. Raises StoreError.
    """
    rooms, api, store, access = ground.rooms, ground.api, ground.store, authority.access
    enforcements = Counter(
        "track_moderation_enforcements",
        "Times that a track was muted again because a moderation block holds it.",
        registry=ground.registry,
    )
    async with contextlib.AsyncExitStack() as stack:
        withholding = await stack.enter_async_context(
            Withholding(
                api, store, lambda room, who: authority.revocation.changed(Touch(principal_identity=who, room=room))
            )
        )
        authority.revocation.overlook(withholding.temporary)
        recorder = Recorder(store)
        stack.push_async_callback(recorder.aclose)
        blocks = Blocks(rooms, store, most=ground.settings.max_moderation_blocks_per_room)
        await blocks.load()
        lives = await stack.enter_async_context(living(ground, owner="moderation", kind="moderated_room"))
        unmuting = Unmuting(api, ground.companion, by_host, stalls)
        enforcement = await stack.enter_async_context(
            Enforcement(rooms, api, blocks, lives, recorder, enforcements.inc)
        )
        timed = await stack.enter_async_context(TimedMutes(rooms, store, unmuting, blocks, lives, recorder))
        await timed.load()
        lives.add(enforcement)
        lives.add(timed)
        questions = await stack.enter_async_context(Questions(rooms, ground.companion, access, blocks))
        rooms.contribute(blocks.contribute)
        held = Held(blocks, enforcement, timed, lives)
        yield Moderated(
            Mutes(rooms, api, access, stalls, unmuting, held),
            Lifting(access, blocks, enforcement),
            questions,
            held,
            withholding,
        )
