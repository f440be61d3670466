"""What the tests ask the companion in Chromium to publish."""

from typing import Any

from track.control.v1 import control_pb2 as control
from track.v1 import publication_pb2 as pb
from track.v1 import track_pb2


def device(
    kind: "pb.DeviceKind.ValueType",
    source: "track_pb2.TrackSource.ValueType" = track_pb2.TRACK_SOURCE_UNSPECIFIED,
    name: str = "",
) -> control.Publish:
    """A plan for a device."""
    spec = pb.PublicationSpec(device=pb.DeviceInput(kind=kind, device=name), source=source, name="front")
    return control.Publish(publication_id="PUB_1", spec=spec)


def camera(**video: Any) -> control.Publish:
    """A plan for the camera; ``video``: fields of VideoOptions."""
    plan = device(pb.DEVICE_KIND_CAMERA, track_pb2.TRACK_SOURCE_CAMERA)
    plan.spec.video.CopyFrom(pb.VideoOptions(**video))
    return plan


def app_video(**video: Any) -> control.Publish:
    """A plan for what the app offers as `canvas`."""
    plan = camera(**video)
    plan.spec.device.kind, plan.spec.device.device = pb.DEVICE_KIND_APP_VIDEO, "canvas"
    return plan


CAMERA = camera(width=320, height=180, frames_per_second=10)
