"""The tracks that the companion publishes, from sources that the app gives, and those that the room receives."""

import asyncio
import inspect
import math
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from google.protobuf import json_format
from livekit import rtc

from track_control.stats import track_stats

Fields: TypeAlias = Mapping[str, Any]  # a message of control.proto in proto JSON
Source: TypeAlias = rtc.VideoSource | rtc.AudioSource
Open: TypeAlias = Callable[[Fields], Source | Awaitable[Source]]
"""Gives the source of a device for a PublicationSpec. The app feeds it until `local_track_unpublished` of its room."""

_ALIKE: Final = ("simulcast", "scalabilityMode", "degradationPreference", "dtx", "red")  # the SDK calls them so, too
_BEYOND: Final = ("layers", "stereo", "noiseSuppression", "echoCancellation", "autoGainControl")
_LOWER_BPS: Final = 160_000 + 450_000  # the SDK's lower layers


# By room and publication id, each with its Publish: the SDK gives it another SID when it connects anew. A companion
# that is attached anew goes on with what an earlier one has published.
_Own: TypeAlias = tuple[rtc.LocalTrackPublication, Fields, Source]
_OWN: Final[weakref.WeakKeyDictionary[rtc.Room, dict[str, _Own]]] = weakref.WeakKeyDictionary()


class Refusal(Exception):
    """A command is not obeyed, or fails; ``status``: a CommandStatus without its prefix. ``reply``: a Reply's part."""

    def __init__(self, status: str, detail: str, command_id: str = "") -> None:
        super().__init__(detail)
        self.command_id = command_id
        self.reply: Final = {"status": f"COMMAND_STATUS_{status}", "detail": detail}


async def awaited(given: Any) -> Any:
    """What a function of the app gives, which may be a coroutine."""
    return await given if inspect.isawaitable(given) else given


class Tracks:
    """The tracks of one room. Coroutines do the actions of their names: fields in, Result out. They raise Refusal."""

    def __init__(self, room: rtc.Room, sources: Mapping[tuple[str, str], Open]) -> None:
        self._room, self._me, self._sources = room, room.local_participant, sources
        self._own = _OWN.setdefault(room, {})
        self._qualities: dict[str, rtc.VideoQuality.ValueType] = {}  # of tracks of others, by SID
        room.on("track_subscribed", self._subscribed)

    def detach(self) -> None:
        """Remembers settings no more."""
        self._room.off("track_subscribed", self._subscribed)

    def _subscribed(self, _: rtc.Track, remote: rtc.RemoteTrackPublication, __: rtc.RemoteParticipant) -> None:
        """LiveKit forgets the settings of a track that is given up for some seconds."""
        if (quality := self._qualities.get(remote.sid)) is not None and remote.simulcasted:
            remote.set_video_quality(quality)

    def published(self, publication_id: str) -> str:
        """SID of what is published as that; empty: nothing."""
        sid = self._own[publication_id][0].sid if publication_id in self._own else ""
        return sid if sid in self._me.track_publications else ""

    async def publish(self, plan: Fields) -> Fields:
        publish_options(plan["spec"])  # refused before anything is opened
        device = plan["spec"]["device"]
        kind = device["kind"].removeprefix("DEVICE_KIND_")
        wanted = (kind, device.get("device", "") if kind.startswith("APP_") else "")
        if wanted not in self._sources:
            raise Refusal("UNSUPPORTED", f"the app offers no {' '.join(wanted)}")
        source = await awaited(self._sources[wanted](plan["spec"]))
        publication = await self._publish(plan, source)
        self._own[plan["publicationId"]] = publication, plan, source
        return {"trackSid": publication.sid}

    async def _publish(self, plan: Fields, source: Source) -> rtc.LocalTrackPublication:
        audio, name = isinstance(source, rtc.AudioSource), plan["spec"].get("name", "")
        create: Any = rtc.LocalAudioTrack.create_audio_track if audio else rtc.LocalVideoTrack.create_video_track
        track = create(name, source)
        if plan.get("muted"):  # before it is published: nobody sees or hears a moment of it
            track.mute()
        publishing = asyncio.create_task(self._me.publish_track(track, publish_options(plan["spec"])))
        try:
            return await asyncio.shield(publishing)
        except asyncio.CancelledError:
            # The SDK publishes it all the same, and would not know it: so it is waited for, and goes again.
            await self._me.unpublish_track((await publishing).sid)
            raise

    async def unpublish(self, fields: Fields) -> Fields:
        sid = fields.get("trackSid") or self.published(fields.get("publicationId", ""))
        for publication_id, (publication, _, _) in list(self._own.items()):
            if publication_id == fields.get("publicationId") or publication.sid == sid:
                del self._own[publication_id]
        if sid in self._me.track_publications:
            await self._me.unpublish_track(sid)
        elif not fields.get("publicationId"):
            raise Refusal("NOT_FOUND", f"no own track {sid}")
        return {}

    async def update(self, fields: Fields) -> Fields:
        return await self._republish(fields["trackSid"], fields["publish"]["spec"], graceful=True)

    async def _republish(self, sid: str, spec: Fields | None, *, graceful: bool) -> Fields:
        """By a new track: the SDK cannot change a live one. ``spec`` None: as it was; the same: nothing is done."""
        publication_id, found = next((own for own in self._own.items() if own[1][0].sid == sid), ("", None))
        if found is None:
            raise Refusal("NOT_FOUND", f"no track {sid} that the service has published")
        publication, plan, source = found
        if spec == plan["spec"]:
            return {"trackSid": sid}
        muted = publication.track is not None and publication.track.muted
        plan = {**plan, "spec": spec or plan["spec"], "muted": muted}
        publish_options(plan["spec"])  # refused before anything goes
        if not graceful:
            await self._me.unpublish_track(sid)
        publication = await self._publish(plan, source)
        if self._own.get(publication_id) is not found:
            await self._me.unpublish_track(publication.sid)
            raise Refusal("FAILED", "it was taken back")
        self._own[publication_id] = publication, plan, source
        if graceful:
            await self._me.unpublish_track(sid)
        return {"trackSid": publication.sid}

    async def restart(self, fields: Fields) -> Fields:
        sid, level = fields["trackSid"], fields["level"].removeprefix("RESTART_LEVEL_")
        own = sid in self._me.track_publications
        if own and level == "REPUBLISH":
            return await self._republish(sid, None, graceful=fields.get("graceful", False))
        if own or level != "RESUBSCRIBE":
            raise Refusal("UNSUPPORTED", f"LiveKit's SDK for Python has no {level} for this track")
        for wanted in (False, True):
            self._received(sid).set_subscribed(wanted)
            while self._received(sid).subscribed != wanted:  # noqa: ASYNC110  there is no event for all cases
                await asyncio.sleep(0.02)
        return {"trackSid": sid}

    async def set_muted(self, fields: Fields) -> Fields:
        own = self._me.track_publications.get(fields["trackSid"])
        if own is None or own.track is None:
            raise Refusal("NOT_FOUND", f"no own track {fields['trackSid']}")
        (own.track.mute if fields.get("muted") else own.track.unmute)()
        return {"trackSid": own.sid}

    async def set_received(self, fields: Fields) -> Fields:
        unsupported = []
        for settings in fields.get("tracks", []):
            sid, known = settings["trackSid"], {"trackSid", "subscribed", "reset"}
            try:
                remote = self._received(sid)
            except Refusal:
                unsupported.append(f"{sid}.track_sid")
                continue
            if "subscribed" in settings:
                remote.set_subscribed(settings["subscribed"])
            quality = settings.get("quality", "VIDEO_QUALITY_HIGH" if settings.get("reset") else None)
            if remote.simulcasted:
                known.add("quality")
                if quality is not None:
                    self._qualities[sid] = rtc.VideoQuality.Value(quality)
                    remote.set_video_quality(self._qualities[sid])
            unsupported += [f"{sid}.{name}" for name in settings if name not in known]
        return {"unsupported": unsupported}

    def _received(self, sid: str) -> rtc.RemoteTrackPublication:
        for participant in self._room.remote_participants.values():
            if sid in participant.track_publications:
                return participant.track_publications[sid]
        raise Refusal("NOT_FOUND", f"no track {sid}")

    async def get_stats(self, fields: Fields) -> Fields:
        participants = [self._me, *self._room.remote_participants.values()]
        found = [own.track for participant in participants for own in participant.track_publications.values()]
        sids = fields.get("trackSids", [])
        wanted, most_bps = [track for track in found if track and (not sids or track.sid in sids)], self._most_bps()
        return {"stats": [await track_stats(track, most_bps) for track in wanted]}

    def _most_bps(self) -> float:
        """What all that is sent may take; infinite where the app published by itself, since nobody tells its bounds."""
        own = {publication.sid: plan["spec"] for publication, plan, _ in self._own.values()}
        return sum(_most_bps(own.get(sid, {})) for sid in self._me.track_publications)


def _most_bps(spec: Fields) -> float:
    """What a track of that PublicationSpec may take, all its layers together; infinite where it does not say."""
    asked = {**spec.get("video", {}), **spec.get("audio", {})}
    return (asked.get("maxBitrateBps") or math.inf) + (_LOWER_BPS if asked.get("simulcast") else 0)


def publish_options(spec: Fields) -> rtc.TrackPublishOptions:
    """Options of a PublicationSpec, completed by the service. Raises Refusal for what the SDK cannot do."""
    asked = {**spec.get("video", {}), **spec.get("audio", {})}
    if beyond := [name for name in _BEYOND if asked.get(name)]:
        raise Refusal("UNSUPPORTED", f"LiveKit's SDK for Python cannot do {', '.join(beyond)}")
    source = spec.get("source", "UNKNOWN").removeprefix("TRACK_SOURCE_").replace("SCREEN_SHARE", "SCREENSHARE")
    options = {name: asked[name] for name in _ALIKE if name in asked} | {"source": f"SOURCE_{source}"}
    bitrate = {"maxBitrate": asked.get("maxBitrateBps", 0)}
    if "video" in spec:
        options["videoCodec"] = asked.get("codec", "VP8").removeprefix("VIDEO_CODEC_")
        options["videoEncoding"] = {**bitrate, "maxFramerate": asked.get("framesPerSecond", 0)}
    if "audio" in spec:
        options["audioEncoding"] = bitrate
    return json_format.ParseDict(options, rtc.TrackPublishOptions())
