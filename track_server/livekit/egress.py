"""LiveKit Egress, as far as LiveKit's API speaks of it."""

from dataclasses import dataclass
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from livekit.api.twirp_client import ServerError
from livekit.protocol import egress

from track.v1.egress_pb2 import EgressFile, EgressOutput, EgressPart, EgressResult
from track_server.errors import EgressUnavailable, LiveKitUnavailable
from track_server.livekit.api import LiveKitApi, LiveKitNotFound, LiveKitRefusal
from track_server.texts import cleaned

ENDED: Final = frozenset({"EGRESS_COMPLETE", "EGRESS_FAILED", "EGRESS_ABORTED", "EGRESS_LIMIT_REACHED"})
"""LiveKit's statuses of what is over."""

# LiveKit asks for an Egress for 24 s; a start that takes longer is given up.
_START_TIMEOUT_S: Final = 30.0
# What LiveKit says, in the text of its errors alone.
_WITHOUT_REDIS: Final = "redis required"
_NOBODY: Final = "no response from servers"
_WITHOUT_REDIS_SENTENCE: Final = "LiveKit has no Egress service: it runs without the Redis that Egress needs"


@dataclass(frozen=True, slots=True)
class Recording:
    """What LiveKit is asked to record. ``video_sid``, ``audio_sid``: one of them, or both into one file.

    ``output``: whole, its path filled in.
    """

    room: str
    video_sid: str
    audio_sid: str
    output: EgressOutput

    @property
    def path(self) -> str:
        """Path or key; empty for a WebSocket."""
        return self.output.file.filepath


@dataclass(frozen=True, slots=True)
class Found:
    """A recording that LiveKit knows. ``part``: as it tells of it; ``updated_s``: of Egress' clock, 0 where unknown."""

    room: str
    part: EgressPart
    updated_s: float

    @property
    def livekit_egress_id(self) -> str:
        """LiveKit's id of it."""
        return self.part.livekit_egress_id

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.part.livekit_status in ENDED


class EgressApi:
    """Starts, stops and finds recordings. Methods raise EgressUnavailable where LiveKit runs without Redis, and what
    LiveKitApi raises."""

    def __init__(self, api: LiveKitApi) -> None:
        self._api = api

    async def start(self, recording: Recording) -> Found:
        """Has it recorded. Without an Egress that takes it, LiveKit says so after 24 s; who gives up earlier cancels.

        Raises EgressUnavailable then, LiveKitRefusal where Egress refuses, LiveKitNotFound where there is no such room.
        """
        method, request = request_of(recording)
        try:
            info = await self._api.ask_egress(method, request, egress.EgressInfo, timeout_s=_START_TIMEOUT_S)
        except LiveKitUnavailable as error:
            if _said(error, _NOBODY):
                raise EgressUnavailable("the LiveKit cluster has no Egress service: none answers") from error
            raise
        except LiveKitRefusal as error:
            raise _without_redis(error) from error
        return found_of(info)

    async def stop(self, livekit_egress_id: str) -> None:
        """Has it ended; one that is over or unknown is no error. Raises LiveKitUnavailable where nobody answers."""
        try:
            await self._api.ask_egress(
                "StopEgress", egress.StopEgressRequest(egress_id=livekit_egress_id), egress.EgressInfo
            )
        except LiveKitNotFound:
            pass
        except LiveKitRefusal as error:
            if error.twirp_code != "failed_precondition":
                raise _without_redis(error) from error

    async def active(self, room_name: str = "") -> list[Found]:
        """All that are not over, of one room or of all."""
        return await self._list(egress.ListEgressRequest(room_name=room_name, active=True))

    async def of_room(self, room_name: str) -> list[Found]:
        """All of the room, also those that ended within the last day."""
        return await self._list(egress.ListEgressRequest(room_name=room_name))

    async def find(self, livekit_egress_id: str) -> Found | None:
        """The one of that id; None where LiveKit knows none."""
        found = await self._list(egress.ListEgressRequest(egress_id=livekit_egress_id))
        return next(iter(found), None)

    async def answers(self, room_name: str, livekit_egress_id: str) -> bool:
        """Whether there is a sign of life of its Egress: its participant is in the room, or it answers a question.

        Egress sits in the room under its id. It refuses UpdateStream for a recording that is no stream, which shows
        that it is there; for one that is gone LiveKit says `unavailable` after 3 s.
        """
        if any(found.identity == livekit_egress_id for found in await self._api.list_participants(room_name)):
            return True
        try:
            await self._api.ask_egress(
                "UpdateStream", egress.UpdateStreamRequest(egress_id=livekit_egress_id), egress.EgressInfo
            )
        except LiveKitUnavailable as error:
            if _said(error, _NOBODY):
                return False
            raise
        except (LiveKitNotFound, LiveKitRefusal):
            pass
        return True

    async def _list(self, request: egress.ListEgressRequest) -> list[Found]:
        try:
            answer = await self._api.ask_egress("ListEgress", request, egress.ListEgressResponse)
        except LiveKitNotFound:
            return []
        except LiveKitRefusal as error:
            raise _without_redis(error) from error
        return [found_of(info) for info in answer.items]


def request_of(
    recording: Recording,
) -> tuple[str, egress.TrackEgressRequest | egress.TrackCompositeEgressRequest]:
    """The method of LiveKit's API, and what it is asked. Pure."""
    output = recording.output
    if recording.video_sid and recording.audio_sid:
        encoded = egress.EncodedFileOutput(filepath=recording.path, disable_manifest=True)
        _store(output.file, encoded)
        return "StartTrackCompositeEgress", egress.TrackCompositeEgressRequest(
            room_name=recording.room,
            video_track_id=recording.video_sid,
            audio_track_id=recording.audio_sid,
            file_outputs=[encoded],
        )
    request = egress.TrackEgressRequest(room_name=recording.room, track_id=recording.video_sid or recording.audio_sid)
    if output.WhichOneof("output") == "websocket_url":
        request.websocket_url = output.websocket_url
    else:
        request.file.filepath = recording.path
        request.file.disable_manifest = True
        _store(output.file, request.file)
    return "StartTrackEgress", request


def _store(file: EgressFile, output: "egress.DirectFileOutput | egress.EncodedFileOutput") -> None:
    match file.WhichOneof("storage"):
        case "s3":
            output.s3.CopyFrom(
                egress.S3Upload(
                    access_key=file.s3.access_key,
                    secret=file.s3.secret,
                    session_token=file.s3.session_token,
                    region=file.s3.region,
                    endpoint=file.s3.endpoint,
                    bucket=file.s3.bucket,
                    force_path_style=file.s3.force_path_style,
                )
            )
        case "gcs":
            output.gcp.CopyFrom(egress.GCPUpload(credentials=file.gcs.credentials, bucket=file.gcs.bucket))
        case "azure":
            output.azure.CopyFrom(
                egress.AzureBlobUpload(
                    account_name=file.azure.account_name,
                    account_key=file.azure.account_key,
                    container_name=file.azure.container,
                )
            )


def found_of(info: egress.EgressInfo) -> Found:
    """What LiveKit tells of a recording, as ours. Pure."""
    part = EgressPart(
        livekit_egress_id=info.egress_id,
        livekit_status=egress.EgressStatus.Name(info.status)
        if info.status in egress.EgressStatus.values()
        else str(info.status),
        error=cleaned(info.error),
    )
    match info.WhichOneof("request"):
        case "track":
            part.track_sid, part.path = info.track.track_id, info.track.file.filepath
        case "track_composite":
            composite = info.track_composite
            part.track_sid, part.audio_track_sid = composite.video_track_id, composite.audio_track_id
            part.path = next((output.filepath for output in composite.file_outputs), composite.file.filepath)
    if info.started_at > 0:
        part.start_time.CopyFrom(_stamp(info.started_at))
    if info.ended_at > 0:
        part.end_time.CopyFrom(_stamp(info.ended_at))
    part.files.extend(_result(file) for file in info.file_results)
    return Found(info.room_name, part, info.updated_at / 1e9)


def _result(file: egress.FileInfo) -> EgressResult:
    result = EgressResult(filename=file.filename, location=cleaned(file.location))
    if file.size > 0:
        result.size_bytes = file.size
    if file.duration > 0:
        result.duration.FromNanoseconds(file.duration)
    return result


def _stamp(nanoseconds: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(nanoseconds)
    return stamp


def _without_redis(error: LiveKitRefusal) -> EgressUnavailable | LiveKitRefusal:
    return EgressUnavailable(_WITHOUT_REDIS_SENTENCE) if _said(error, _WITHOUT_REDIS) else error


def _said(error: Exception, text: str) -> bool:
    return isinstance(error.__cause__, ServerError) and text in str(error.__cause__)
