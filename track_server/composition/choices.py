"""Manual choices of subscriptions: kept, and following their tracks."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from track_server.composition.foundation import Foundation
from track_server.composition.lives import living
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
    async with contextlib.AsyncExitStack() as stack:
        lives = await stack.enter_async_context(
            living(ground, owner="subscription choices", kind="subscription_choices_room")
        )
        choices = await stack.enter_async_context(Choices(ground.store, book, lives))
        await choices.load()
        following = await stack.enter_async_context(Following(choices))
        lives.add(following)
        book.listen(following.announced)
        yield Chosen(choices, lives)
