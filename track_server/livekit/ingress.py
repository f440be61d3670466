"""LiveKit Ingress, as far as LiveKit's API speaks of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from livekit.api.twirp_client import ServerError
from livekit.protocol import ingress, models

from track.v1 import ingress_pb2, publication_pb2, track_pb2
from track.v1.ingress_pb2 import IngressState, IngressType
from track.v1.publication_pb2 import Publication
from track_server.errors import IngressUnavailable, LiveKitUnavailable
from track_server.livekit.api import LiveKitApi, LiveKitNotFound, LiveKitRefusal

_TYPES: Final = {
    IngressType.INGRESS_TYPE_RTMP: ingress.IngressInput.RTMP_INPUT,
    IngressType.INGRESS_TYPE_WHIP: ingress.IngressInput.WHIP_INPUT,
    IngressType.INGRESS_TYPE_URL: ingress.IngressInput.URL_INPUT,
}
_STATES: Final = {
    ingress.IngressState.ENDPOINT_INACTIVE: IngressState.INGRESS_STATE_INACTIVE,
    ingress.IngressState.ENDPOINT_BUFFERING: IngressState.INGRESS_STATE_BUFFERING,
    ingress.IngressState.ENDPOINT_PUBLISHING: IngressState.INGRESS_STATE_PUBLISHING,
    ingress.IngressState.ENDPOINT_ERROR: IngressState.INGRESS_STATE_ERROR,
    ingress.IngressState.ENDPOINT_COMPLETE: IngressState.INGRESS_STATE_COMPLETE,
}
_SETTINGS: Final = {
    IngressType.INGRESS_TYPE_RTMP: "ingress.rtmp_base_url",
    IngressType.INGRESS_TYPE_WHIP: "ingress.whip_base_url",
}
_CODECS: Final = {
    publication_pb2.VIDEO_CODEC_VP8: models.VideoCodec.VP8,
    publication_pb2.VIDEO_CODEC_H264: models.VideoCodec.H264_BASELINE,
}
CODECS: Final = frozenset(_CODECS)
"""What LiveKit Ingress encodes to."""
_SCREEN: Final = (track_pb2.TRACK_SOURCE_SCREEN_SHARE, track_pb2.TRACK_SOURCE_SCREEN_SHARE_AUDIO)
# By the number of layers: LiveKit names the largest HIGH.
_QUALITIES: Final = (
    (models.VideoQuality.HIGH,),
    (models.VideoQuality.LOW, models.VideoQuality.HIGH),
    (models.VideoQuality.LOW, models.VideoQuality.MEDIUM, models.VideoQuality.HIGH),
)
# What LiveKit says, in the text of its errors alone.
_WITHOUT_REDIS: Final = "redis required"
_WITHOUT_INGRESS: Final = "no response from servers"


@dataclass(frozen=True, slots=True)
class Found:
    """An ingress of LiveKit with the name it was given."""

    name: str
    ingress: ingress_pb2.Ingress


class IngressApi:
    """Creates, finds and deletes ingresses. Every method raises IngressUnavailable where the cluster has none, and
    what LiveKitApi raises."""

    def __init__(self, api: LiveKitApi) -> None:
        self._api = api

    async def create(self, publication: Publication) -> ingress_pb2.Ingress:
        """Creates the ingress of a publication, whose spec is whole; its name is the publication's id."""
        try:
            made = await self._api.ask_ingress("CreateIngress", request_of(publication), ingress.IngressInfo)
        except LiveKitUnavailable as error:
            if _said(error, _WITHOUT_INGRESS):
                raise IngressUnavailable("the LiveKit cluster has no Ingress service: none answers") from error
            raise
        except LiveKitRefusal as error:
            raise _without_redis(error) from error
        setting = _SETTINGS.get(publication.spec.ingress.type)
        if setting is not None and not made.url:
            await self.delete(made.ingress_id)
            raise IngressUnavailable(
                f"LiveKit's configuration names no address of an Ingress service: {setting} is not set",
                metadata={"livekit_setting": setting},
            )
        return _converted(made)

    async def of_room(self, room: str) -> list[Found]:
        """All ingresses into the room."""
        request = ingress.ListIngressRequest(room_name=room)
        return [Found(item.name, _converted(item)) for item in await self._list(request)]

    async def find(self, ingress_id: str) -> ingress_pb2.Ingress | None:
        """The ingress of that id; None where there is none."""
        items = await self._list(ingress.ListIngressRequest(ingress_id=ingress_id))
        return next((_converted(item) for item in items), None)

    async def delete(self, ingress_id: str) -> None:
        """Deletes it, which ends what it publishes. One that is gone already is no error."""
        request = ingress.DeleteIngressRequest(ingress_id=ingress_id)
        try:
            await self._api.ask_ingress("DeleteIngress", request, ingress.IngressInfo)
        except LiveKitNotFound:
            pass
        except LiveKitRefusal as error:
            raise _without_redis(error) from error

    async def _list(self, request: ingress.ListIngressRequest) -> Sequence[ingress.IngressInfo]:
        try:
            answer = await self._api.ask_ingress("ListIngress", request, ingress.ListIngressResponse)
        except LiveKitNotFound:
            return []
        except LiveKitRefusal as error:
            raise _without_redis(error) from error
        return answer.items


def request_of(publication: Publication) -> ingress.CreateIngressRequest:
    """What LiveKit is asked for. Pure."""
    spec = publication.spec
    request = ingress.CreateIngressRequest(
        input_type=_TYPES[spec.ingress.type],
        url=spec.ingress.url,
        name=publication.publication_id,
        room_name=publication.room,
        participant_identity=publication.participant_identity,
        enable_transcoding=spec.ingress.enable_transcoding,
    )
    screen = spec.source in _SCREEN
    request.video.name = request.audio.name = spec.name
    request.video.source = models.TrackSource.SCREEN_SHARE if screen else models.TrackSource.CAMERA
    request.audio.source = models.TrackSource.SCREEN_SHARE_AUDIO if screen else models.TrackSource.MICROPHONE
    if spec.ingress.enable_transcoding and spec.HasField("video"):
        request.video.options.CopyFrom(_video(spec.video))
    if spec.ingress.enable_transcoding and spec.HasField("audio"):
        request.audio.options.CopyFrom(
            ingress.IngressAudioEncodingOptions(
                audio_codec=models.AudioCodec.OPUS,
                bitrate=spec.audio.max_bitrate_bps,
                disable_dtx=not spec.audio.dtx,
                channels=2 if spec.audio.stereo else 1,
            )
        )
    return request


def _video(video: publication_pb2.VideoOptions) -> ingress.IngressVideoEncodingOptions:
    layers = list(video.layers) or [
        publication_pb2.VideoLayerOptions(width=video.width, height=video.height, max_bitrate_bps=video.max_bitrate_bps)
    ]
    return ingress.IngressVideoEncodingOptions(
        video_codec=_CODECS[video.codec],
        frame_rate=video.frames_per_second,
        layers=[
            models.VideoLayer(quality=quality, width=layer.width, height=layer.height, bitrate=layer.max_bitrate_bps)
            for quality, layer in zip(_QUALITIES[len(layers) - 1], layers, strict=True)
        ],
    )


def _converted(info: ingress.IngressInfo) -> ingress_pb2.Ingress:
    pulled = info.input_type == ingress.IngressInput.URL_INPUT
    return ingress_pb2.Ingress(
        ingress_id=info.ingress_id,
        # A URL is what it pulls, which may be a secret and is in the spec.
        url="" if pulled else info.url,
        stream_key="" if pulled else info.stream_key,
        state=_STATES.get(info.state.status, IngressState.INGRESS_STATE_UNSPECIFIED),
    )


def _without_redis(error: LiveKitRefusal) -> IngressUnavailable | LiveKitRefusal:
    if _said(error, _WITHOUT_REDIS):
        return IngressUnavailable("LiveKit has no Ingress service: it runs without the Redis that Ingress needs")
    return error


def _said(error: Exception, text: str) -> bool:
    return isinstance(error.__cause__, ServerError) and text in str(error.__cause__)
