"""The quality timeline: bounded, taken up again, and as a file beside the recording."""

import json
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from track.v1.egress_pb2 import EgressPart, TimelineSample, TrackEgress
from track.v1.quality_pb2 import TrackQualityReport
from track_server.egress.beside import SUFFIX, document, write
from track_server.egress.timeline import FIRST_INTERVAL_S, MAX_SAMPLES, Timeline


def report(sid: str = "TR_a") -> TrackQualityReport:
    return TrackQualityReport(track_sid=sid)


def test_a_long_recording_has_fewer_samples_further_apart() -> None:
    timeline = Timeline()
    seconds = 0.0
    while timeline.interval_s < 4 * FIRST_INTERVAL_S:
        seconds += timeline.interval_s
        timeline.add([report(), report("TR_b")], Timestamp(seconds=int(seconds)))
        assert len(timeline.samples) <= MAX_SAMPLES
    times = [sample.time.seconds for sample in timeline.samples]
    assert times == sorted(times)
    # Both tracks of each moment are still there, and the span is covered to its end.
    assert all(times.count(time) == 2 for time in set(times))
    assert {later - earlier for earlier, later in zip(times[::2], times[2::2], strict=False)} == {8}
    assert times[0] == 2
    assert seconds - times[-1] < 8


def test_one_that_is_taken_up_again_goes_on_at_its_interval() -> None:
    samples = [TimelineSample(time=Timestamp(seconds=second)) for second in (0, 8, 16, 16, 24)]
    assert Timeline(samples).interval_s == 8
    assert Timeline(samples[:1]).interval_s == Timeline().interval_s == FIRST_INTERVAL_S


def test_the_document_has_the_samples_of_the_time_recorded() -> None:
    part = EgressPart(livekit_egress_id="EG_a", track_sid="TR_a")
    part.start_time.seconds, part.end_time.seconds = 10, 20
    part.files.add(filename="a.ogg")
    samples = [TimelineSample(report=report(), time=Timestamp(seconds=second)) for second in (9, 10, 15, 20, 21)]
    content = json.loads(document(TrackEgress(egress_id="TEG_a", room="demo"), part, samples))
    assert (content["egress_id"], content["part"]["livekit_egress_id"]) == ("TEG_a", "EG_a")
    assert [sample["time"] for sample in content["samples"]] == [
        f"1970-01-01T00:00:{second}Z" for second in (10, 15, 20)
    ]


def test_it_is_written_beside_the_file_and_nowhere_else(tmp_path: Path) -> None:
    disk, outside = tmp_path / "disk", tmp_path / "outside"
    for folder in (disk / "recordings", outside):
        folder.mkdir(parents=True)
        (folder / "a.ogg").touch()
    (disk / "elsewhere").symlink_to(outside)
    assert write(disk, "recordings/a.ogg", b"{}") == f"recordings/a.ogg{SUFFIX}"
    assert (disk / f"recordings/a.ogg{SUFFIX}").read_bytes() == b"{}"
    assert write(disk, str(disk / "recordings/a.ogg"), b"{ }") == f"{disk}/recordings/a.ogg{SUFFIX}"
    for location in (
        "recordings/b.ogg", "a.ogg", "../outside/a.ogg", str(outside / "a.ogg"), "elsewhere/a.ogg",
        "https://tapes.s3.example/recordings/a.ogg",
    ):  # fmt: skip
        assert write(disk, location, b"{}") == ""
    assert sorted(path.name for path in outside.iterdir()) == ["a.ogg"]
    # What lies there under that name is replaced, also where it leads elsewhere.
    (disk / f"recordings/a.ogg{SUFFIX}").unlink()
    (disk / f"recordings/a.ogg{SUFFIX}").symlink_to(outside / "a.ogg")
    assert write(disk, "recordings/a.ogg", b"{}")
    assert (outside / "a.ogg").read_bytes() == b""
    assert not [path for path in (disk / "recordings").iterdir() if path.name.startswith(".")]
