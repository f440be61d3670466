"""Writes a live track to a file.

    export TOKEN=$(track-server token --room demo --admin --identity tape)
    python examples/pull_to_file.py localhost:50051 demo TR_... tape.ogg --seconds 10

By the file's ending: .wav and .ogg take sound, .mkv a video, with --sound and a SID of sound beside it. Needs grpcio
and the generated `track.v1`.
"""

import argparse
import os
from pathlib import Path

import grpc
from google.protobuf import duration_pb2

from track.v1 import pull_pb2 as pb
from track.v1.track_service_pb2_grpc import TrackServiceStub

CONTAINERS = {
    ".wav": pb.PULL_CONTAINER_WAV,
    ".ogg": pb.PULL_CONTAINER_OGG,
    ".mkv": pb.PULL_CONTAINER_MATROSKA,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("room")
    parser.add_argument("track_sid")
    parser.add_argument("file", type=Path)
    parser.add_argument("--sound", default="", help="SID of a track of sound that goes with the video")
    parser.add_argument("--seconds", type=int, default=10)
    given = parser.parse_args()
    if given.file.suffix not in CONTAINERS:
        parser.error(f"the file's name must end in one of {', '.join(CONTAINERS)}")
    request = pb.PullMediaRequest(
        room=given.room,
        track_sid=given.track_sid,
        audio_track_sid=given.sound,
        container=CONTAINERS[given.file.suffix],
        max_duration=duration_pb2.Duration(seconds=given.seconds),
    )
    metadata = (("authorization", f"Bearer {os.environ['TOKEN']}"),)
    with grpc.insecure_channel(given.address) as channel, given.file.open("wb") as file:
        for response in TrackServiceStub(channel).PullMedia(request, metadata=metadata):
            match response.WhichOneof("event"):
                case "started":
                    print(response.started.mime_type, flush=True)
                case "chunk":
                    file.write(response.chunk.data)
                case "ended":
                    print(pb.PullEndReason.Name(response.ended.reason), response.ended.stats.frames_dropped, "left out")
                case _:
                    pass


if __name__ == "__main__":
    main()
