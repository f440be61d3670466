"""Feeders: what is to be fed into a source of the SDK, for the tracks of one attempt or of two."""

import asyncio
from typing import Protocol, runtime_checkable

from livekit import rtc

from track.v1.publication_pb2 import PublicationSpec


class Feeder(Protocol):
    """Feeds one source of the SDK."""

    def create_track(self, name: str) -> rtc.LocalAudioTrack | rtc.LocalVideoTrack:
        """The source's track; another one at each call."""

    async def open(self) -> None:
        """Open the input. Raises TrackError."""

    async def produce(self, live: asyncio.Event) -> None:
        """Feed the source until the input ends. The content begins when `live` is set, as far as that matters to it."""

    async def aclose(self) -> None:
        """Close input and source."""


@runtime_checkable
class Changeable(Protocol):
    """A feeder of which something can change while it feeds."""

    def change(self, spec: PublicationSpec) -> None:
        """Takes it over: see mediachange.in_place."""


@runtime_checkable
class Bright(Protocol):
    """A feeder of pictures that it can see."""

    def brightness(self) -> float | None:
        """Mean luma of those since the call before, 0 black to 1 white; None where there were none."""


class SharedFeeder:
    """A feeder with holders, each of which calls `aclose` once; the last one closes it. See Feeder.

    What it plays goes on while the track of one attempt takes over from that of another.
    """

    def __init__(self, feeder: Feeder) -> None:
        self._feeder = feeder
        self._holders = 1
        self._opening: asyncio.Task[None] | None = None
        self._producing: asyncio.Task[None] | None = None

    def hold(self) -> "SharedFeeder":
        """Itself, with one more holder. It must be held by somebody."""
        self._holders += 1
        return self

    def create_track(self, name: str) -> rtc.LocalAudioTrack | rtc.LocalVideoTrack:
        return self._feeder.create_track(name)

    def change(self, spec: PublicationSpec) -> None:
        """Takes over what its feeder can."""
        if isinstance(self._feeder, Changeable):
            self._feeder.change(spec)

    def brightness(self) -> float | None:
        """See Bright; None where its feeder sees none."""
        return self._feeder.brightness() if isinstance(self._feeder, Bright) else None

    async def open(self) -> None:
        if self._opening is None:
            self._opening = asyncio.create_task(self._feeder.open(), name="feeder-open")
        await asyncio.shield(self._opening)

    async def produce(self, live: asyncio.Event) -> None:
        # Whoever is first begins; that it goes away does not end it for the other one.
        if self._producing is None:
            self._producing = asyncio.create_task(self._feeder.produce(live), name="feeder-produce")
        await asyncio.shield(self._producing)

    async def aclose(self) -> None:
        self._holders -= 1
        if self._holders:
            return
        tasks = [task for task in (self._opening, self._producing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._feeder.aclose()
