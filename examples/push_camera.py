"""Pushes pictures into a room: a camera that is not one.

    export TOKEN=$(track-server token --room demo --admin --identity camera)
    python examples/push_camera.py localhost:50051 demo --seconds 10

A light bar moves across 640x360 pixels, 15 times a second. Needs grpcio, numpy and the generated `track.v1`.
"""

import argparse
import os
import time
from collections.abc import Iterator
from queue import SimpleQueue

import grpc
import numpy as np

from track.v1 import media_frame_pb2, push_pb2
from track.v1 import publication_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceStub

WIDTH, HEIGHT, FPS = 640, 360, 15


def picture(number: int) -> bytes:
    """I420: a dark picture with a light bar, further right in each."""
    luma = np.full((HEIGHT, WIDTH), 40, dtype=np.uint8)
    left = number * 8 % (WIDTH - 40)
    luma[:, left : left + 40] = 220
    return luma.tobytes() + bytes([128]) * (WIDTH * HEIGHT // 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("room")
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    metadata = (("authorization", f"Bearer {os.environ['TOKEN']}"),)
    with grpc.insecure_channel(given.address) as channel:
        service = TrackServiceStub(channel)
        spec = pb.PublicationSpec(
            push=pb.PushInput(raw_video=media_frame_pb2.RawVideoFormat()),
            video=pb.VideoOptions(width=WIDTH, height=HEIGHT, frames_per_second=FPS),
        )
        # Answered as soon as a media worker waits for frames: the track comes with the first one.
        request = pb.PublishTrackRequest(room=given.room, spec=spec)
        publication = service.PublishTrack(request, metadata=metadata, timeout=10).publication
        print(publication.publication_id, flush=True)

        told: SimpleQueue[int] = SimpleQueue()

        def requests() -> Iterator[push_pb2.PushMediaRequest]:
            yield push_pb2.PushMediaRequest(room=given.room, publication_id=publication.publication_id)
            left = told.get()  # comes with `ready`
            begin = time.monotonic()
            number = 0
            while (now := time.monotonic() - begin) < given.seconds:
                while not told.empty():
                    left += told.get()
                data = picture(number)
                # A live source leaves out what there is no credit for; one that has time waits for it.
                if left >= len(data):
                    left -= len(data)
                    frame = push_pb2.RawVideoFrame(timestamp_us=round(now * 1e6), data=data)
                    yield push_pb2.PushMediaRequest(raw_video=frame)
                number += 1
                time.sleep(max(0.0, begin + number / FPS - time.monotonic()))
            yield push_pb2.PushMediaRequest(end=push_pb2.EndOfMedia())

        for answer in service.PushMedia(requests(), metadata=metadata):
            match answer.WhichOneof("event"):
                case "ready":
                    told.put(answer.ready.credit.bytes)
                case "credit":
                    told.put(answer.credit.bytes)
                case "stats":
                    print(f"{answer.stats.frames_taken} taken, {answer.stats.frames_dropped} dropped", flush=True)


if __name__ == "__main__":
    main()
