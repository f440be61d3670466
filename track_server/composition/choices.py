"""Manual choices of subscriptions: kept, and following their tracks."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from track_server.composition.foundation import Foundation
from track_server.publishing.book import Book
from track_server.rooms.lives import Lives
from track_server.subscription.choices import Choices
from track_server.subscription.following import Following


@dataclass(frozen=True, slots=True)
class Chosen:
    """The parts."""

    choices: Choices
    lives: Lives

    def restore(self) -> None:
        """Begins what an earlier run left."""
        self.choices.restore()
        self.lives.restore()


@contextlib.asynccontextmanager
async def choosing(ground: Foundation, book: Book) -> AsyncIterator[Chosen]:
    """Manual choices for the span of the block. What an earlier run left is read, and begun by ``restore``.

    Raises StoreError.
    """
    rooms, store, standing = ground.rooms, ground.store, ground.standing
    async with contextlib.AsyncExitStack() as stack:
        lives = await stack.enter_async_context(
            Lives(rooms, standing, store, owner="subscription choices", kind="subscription_choices_room")
        )
        await lives.load()
        choices = await stack.enter_async_context(Choices(store, book, lives))
        await choices.load()
        following = await stack.enter_async_context(Following(choices))
        lives.add(following)
        rooms.listen(lives.happened)
        standing.listen(lives.watched)
        standing.miss(lives.missed)
        book.listen(following.announced)
        yield Chosen(choices, lives)
