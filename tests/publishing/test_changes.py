"""Field masks over specs, and what a change means for the track."""

from typing import Any, Final

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict

from track.v1 import publication_update_pb2 as updates
from track.v1.publication_pb2 import PUBLICATION_STATE_LIVE, PUBLICATION_STATE_PENDING, Publication, PublicationSpec
from track.v1.track_pb2 import TrackType
from track_server.errors import InvalidField, InvalidOptions
from track_server.mediachange import digest, same_feed, same_media
from track_server.publishing.changes import changed, method_of
from track_server.publishing.spec import Stream, complete

NONE, IN_PLACE, REPLACED = (
    updates.UPDATE_METHOD_NONE,
    updates.UPDATE_METHOD_IN_PLACE,
    updates.UPDATE_METHOD_REPLACED,
)
PATTERN: Final[dict[str, Any]] = {"testPattern": {}, "video": {"width": 1280, "height": 720, "framesPerSecond": 30}}


def spec(said: dict[str, Any]) -> PublicationSpec:
    return ParseDict(said, PublicationSpec())


def completed(said: PublicationSpec) -> PublicationSpec:
    file = Stream(TrackType.TRACK_TYPE_AUDIO if said.file.type == TrackType.TRACK_TYPE_AUDIO else said.file.type)
    return complete(said, "PUB_a", file if said.HasField("file") else None)


def change(before: dict[str, Any], asked: dict[str, Any], *paths: str) -> PublicationSpec:
    mask = FieldMask(paths=paths)
    return completed(changed(completed(spec(before)), spec(asked), mask, completed))


def test_what_is_named_and_nothing_else_changes() -> None:
    before = completed(spec({**PATTERN, "name": "one", "metadata": {"a": 1}}))
    after = change({**PATTERN, "name": "one", "metadata": {"a": 1}}, {"name": "two", "metadata": {"b": 2}}, "name")
    assert (after.name, after.metadata) == ("two", before.metadata)
    assert after.video == before.video


def test_what_is_named_and_not_set_goes_back_to_its_default() -> None:
    assert change({**PATTERN, "name": "one"}, {}, "name").name == "PUB_a"
    assert not change({**PATTERN, "metadata": {"a": 1}}, {}, "metadata").HasField("metadata")
    assert change({"tone": {"frequencyHz": 99}}, {}, "tone").tone.frequency_hz == 440
    assert change({"tone": {"levelDbfs": -3}}, {"tone": {}}, "tone.level_dbfs").tone.level_dbfs == -20
    assert change(PATTERN, {}, "video").video.width == 1280


def test_defaults_follow_what_they_rest_on_and_what_was_asked_for_stays() -> None:
    small = {"video": {"width": 640, "height": 360}}
    after = change(PATTERN, small, "video.width", "video.height")
    assert (after.video.max_bitrate_bps, after.video.simulcast, len(after.video.layers)) == (483_840, False, 0)
    chosen = {**PATTERN, "video": {"width": 1280, "height": 720, "framesPerSecond": 30, "maxBitrateBps": 777_000}}
    after = change(chosen, small, "video.width", "video.height")
    assert after.video.max_bitrate_bps == 777_000
    assert change({"tone": {}, "audio": {}}, {"audio": {"stereo": True}}, "audio.stereo").audio.red is False


@pytest.mark.parametrize(
    ("before", "asked", "paths", "method"),
    [
        (PATTERN, {"metadata": {"a": 1}}, ["metadata"], NONE),
        (PATTERN, {"fallback": {"maxAttempts": 2}}, ["fallback"], NONE),
        (PATTERN, PATTERN, ["video"], NONE),
        (PATTERN, {"video": {"framesPerSecond": 10}}, ["video.frames_per_second"], IN_PLACE),
        (PATTERN, {"video": {"framesPerSecond": 60}}, ["video.frames_per_second"], REPLACED),
        (PATTERN, {"video": {"maxBitrateBps": 60_000}}, ["video.max_bitrate_bps"], REPLACED),
        (PATTERN, {"video": {"codec": "VIDEO_CODEC_H264"}}, ["video.codec"], REPLACED),
        (PATTERN, {"name": "two"}, ["name"], REPLACED),
        (PATTERN, {"source": "TRACK_SOURCE_SCREEN_SHARE"}, ["source"], REPLACED),
        ({"tone": {}}, {"tone": {"frequencyHz": 500}}, ["tone"], IN_PLACE),
        ({"tone": {}}, {"audio": {"dtx": False}}, ["audio.dtx"], REPLACED),
        ({"data": {}}, {"data": {"payload": "aGk="}}, ["data.payload", "data.frame_bytes"], IN_PLACE),
        ({"data": {}}, {"name": "two"}, ["name"], REPLACED),
        (
            {"data": {}, "dataOptions": {"delivery": "DATA_DELIVERY_RELIABLE_MESSAGES"}},
            {"name": "two"},
            ["name"],
            IN_PLACE,
        ),
        ({"push": {"pcm": {}}}, {"push": {"stallEnd": "60s"}}, ["push.stall_end"], IN_PLACE),
        ({"push": {"pcm": {}}}, {"audio": {"noiseSuppression": True}}, ["audio.noise_suppression"], IN_PLACE),
        ({"push": {"pcm": {}}}, {"audio": {"echoCancellation": True}}, ["audio.echo_cancellation"], IN_PLACE),
    ],
)
def test_how_a_change_is_made(before: dict[str, Any], asked: dict[str, Any], paths: list[str], method: int) -> None:
    old = Publication(state=PUBLICATION_STATE_LIVE, spec=completed(spec(before)))
    new = Publication(state=PUBLICATION_STATE_LIVE, spec=change(before, asked, *paths))
    assert method_of(old, new) == method
    # What is not live has no track that could be changed.
    old.state = PUBLICATION_STATE_PENDING
    assert method_of(old, new) == NONE


@pytest.mark.parametrize(
    ("before", "asked", "path"),
    [
        (PATTERN, {"tone": {}}, "tone"),
        (PATTERN, {}, "encryption"),
        ({"push": {"pcm": {}}}, {"push": {"data": {}}}, "push"),
        ({"push": {"pcm": {}}}, {"push": {"pcm": {"channels": 2}}}, "push.pcm"),
        ({"push": {"pcm": {}}}, {"push": {"rawVideo": {}}}, "push.raw_video"),
        (
            {"push": {"rawVideo": {}}, "video": {"width": 320, "height": 180}},
            {"video": {"width": 640}},
            "video.width",
        ),
        (
            {"push": {"encodedVideo": {}}, "video": {"width": 320, "height": 180}},
            {"video": {"codec": "VIDEO_CODEC_H264"}},
            "video.codec",
        ),
        ({"data": {}}, {"dataOptions": {"delivery": "DATA_DELIVERY_LOSSY_MESSAGES"}}, "data_options.delivery"),
        ({"device": {"kind": "DEVICE_KIND_CAMERA"}}, {"device": {"kind": "DEVICE_KIND_SCREEN"}}, "device.kind"),
    ],
)
def test_what_cannot_change_is_refused(before: dict[str, Any], asked: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidOptions) as refused:
        change(before, asked, path)
    assert refused.value.field == "update_mask"


@pytest.mark.parametrize(
    "path", ["", "*", "vido", "video.", ".video", "video..width", "video.Width", "metadata.fields"]
)
def test_unknown_paths_are_refused_and_named(path: str) -> None:
    with pytest.raises(InvalidField, match=r"no field '.*' in the spec") as refused:
        change(PATTERN, {}, path)
    assert repr(path) in refused.value.message


def test_no_path_and_too_many_are_refused() -> None:
    for paths in ((), ("name",) * 65):
        with pytest.raises(InvalidField):
            change(PATTERN, {}, *paths)


def test_one_source_feeds_what_has_the_same_pictures() -> None:
    base = completed(spec(PATTERN))
    for asked, path, same in (
        ({"video": {"maxBitrateBps": 60_000}}, "video.max_bitrate_bps", True),
        ({"video": {"framesPerSecond": 60}}, "video.frames_per_second", True),
        ({"name": "two"}, "name", True),
        ({"video": {"width": 640, "height": 360}}, "video", False),
    ):
        assert same_feed(base, change(PATTERN, asked, path)) is same


def test_pushed_pictures_have_one_source_at_every_rate() -> None:
    pushed = {"push": {"rawVideo": {}}, "video": {"width": 320, "height": 180}}
    asked = {"video": {"framesPerSecond": 10}}
    assert same_feed(completed(spec(pushed)), change(pushed, asked, "video.frames_per_second"))


def test_the_digest_is_of_what_is_sent() -> None:
    base, other = completed(spec(PATTERN)), change(PATTERN, {"name": "two"}, "name")
    told = change(PATTERN, {"metadata": {"a": 1}}, "metadata")
    assert same_media(base, told)
    assert digest(base) == digest(told) != digest(other)
