"""Metadata of tracks: its records, its rules and schemas, and what keeps it in the rooms."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from track_server.access.access import Access
from track_server.composition.foundation import Foundation
from track_server.metadata.checking import Checking
from track_server.metadata.keeper import Keeper
from track_server.metadata.metadata import Metadata
from track_server.metadata.overwrites import Overwrites
from track_server.metadata.policies import SchemaPolicies
from track_server.metadata.publisher import Publisher
from track_server.metadata.records import Publications, Records
from track_server.metadata.rules import Rules
from track_server.metadata.schemas import Schemas
from track_server.metadata.showing import Showing
from track_server.metadata.specified import SpecifiedMetadata
from track_server.metadata.view import View


@dataclass(frozen=True, slots=True)
class Described:
    """The parts."""

    metadata: Metadata
    policies: SchemaPolicies
    specified: SpecifiedMetadata
    keeper: Keeper


@contextlib.asynccontextmanager
async def describing(ground: Foundation, access: Access, publications: Publications) -> AsyncIterator[Described]:
    """Metadata of tracks for the span of the block. What an earlier run left is read, and begun by the keeper's
    ``restore``. Raises StoreError."""
    async with contextlib.AsyncExitStack() as stack:
        checking = await stack.enter_async_context(Checking())
        schemas = Schemas(ground.store, checking, ground.settings)
        await schemas.load()
        records = Records(ground.store, publications)
        await records.load()
        rules = Rules(ground.settings, schemas)
        view = View(records)
        publisher = await stack.enter_async_context(
            Publisher(
                ground.rooms,
                ground.api,
                view.wanted,
                lambda: overwrites.happened,
                per_second=ground.settings.metadata_writes_per_second,
            )
        )
        showing = Showing(ground.rooms, records, view, publisher)
        overwrites = await stack.enter_async_context(Overwrites(records, rules, view, showing, publisher))
        keeper = await stack.enter_async_context(
            Keeper(
                ground.rooms,
                ground.api,
                ground.standing,
                records,
                showing,
                publisher,
                overwrites,
                return_s=ground.settings.metadata_return_seconds,
            )
        )
        ground.rooms.describe_with(records.describe)
        ground.rooms.listen(keeper.happened)
        ground.rooms.contribute(showing.contribute)
        ground.standing.listen(keeper.watched)
        yield Described(
            Metadata(ground.rooms, ground.api, access, publications, records, rules, view, keeper, showing),
            SchemaPolicies(schemas, ground.rooms),
            SpecifiedMetadata(rules, view, keeper),
            keeper,
        )
