"""Paths of recordings: what is one, where it may lead, and what is filled in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from track.v1.track_pb2 import TRACK_SOURCE_SCREEN_SHARE_AUDIO, TRACK_TYPE_AUDIO, Track
from track_server.egress.paths import check_path, check_prefix, check_relative, filled, values_of
from track_server.errors import DestinationNotAllowed, InvalidField

TRACK = Track(sid="TR_a", participant_identity="alice", type=TRACK_TYPE_AUDIO, source=TRACK_SOURCE_SCREEN_SHARE_AUDIO)
VALUES = values_of(TRACK, "demo", "RM_a")


@pytest.mark.parametrize(
    "path",
    ["a.ogg", "recordings/a.ogg", "/out/a.ogg", "{room_name}/{track_id}-{time}.mp4", "a b/ä.ogg", "...ogg", "..a/b"],
)
def test_a_path_of_a_file_is_one(path: str) -> None:
    check_path(path, "path")


@pytest.mark.parametrize(
    "path",
    [
        "../a", "a/../b", "a/..", "..", ".", "./a", "a/./b", "a//b", "//a", "/", "a/", "a\\b", "a\x00b", "a\nb",
        "a\x85b", "a\u202eb", "a\u200bb", "a\u2028b", "ä" * 128, "a" * 256 + "/b",
        "{unknown}", "{track_id", "track_id}", "{{track_id}}", "{TRACK_ID}", "{}", "{time }",
    ],
)  # fmt: skip
def test_what_leads_elsewhere_or_is_no_template_is_refused(path: str) -> None:
    with pytest.raises(InvalidField):
        check_path(path, "path")


@pytest.mark.parametrize("path", ["recordings/a", "/out/a"])
def test_a_path_below_an_allowed_folder_is_allowed(path: str) -> None:
    check_prefix(path, ["recordings/", "/out/"], "path")


@pytest.mark.parametrize("path", ["a", "recordings", "recordingsa/b", "out/a", "/recordings/a", "{room_name}/a"])
def test_a_path_elsewhere_is_not(path: str) -> None:
    with pytest.raises(DestinationNotAllowed):
        check_prefix(path, ["recordings/", "/out/"], "path")


def test_a_key_of_a_bucket_is_relative() -> None:
    with pytest.raises(InvalidField):
        check_relative("/a", "path")


def test_all_but_the_time_is_filled_in() -> None:
    template = "{room_name}/{room_id}/{track_id}.{track_type}.{track_source}.{publisher_identity}.{time}"
    assert filled(template, VALUES, 1, "path") == "demo/RM_a/TR_a.audio.screen_share_audio.alice.{time}"


def test_parts_after_the_first_have_names_of_their_own() -> None:
    assert filled("a/b.c.ogg", VALUES, 2, "path") == "a/b.c-2.ogg"
    assert filled("a.d/b", VALUES, 3, "path") == "a.d/b-3"
    assert filled("{room_name}/.b", VALUES, 2, "path") == "demo/.b-2"
    assert filled("{track_id}.ogg", VALUES, 2, "path") == "TR_a.ogg"
    assert filled("{time}.ogg", VALUES, 2, "path") == "{time}.ogg"


def test_one_that_becomes_too_long_is_refused() -> None:
    values = {**VALUES, "{publisher_identity}": "ä" * 256}
    with pytest.raises(InvalidField):
        filled("{publisher_identity}" * 3, values, 1, "path")
    with pytest.raises(InvalidField):
        filled("{publisher_identity}", {**VALUES, "{publisher_identity}": "ä" * 128}, 1, "path")
    with pytest.raises(InvalidField):
        filled("/".join(["{room_name}"] * 210), VALUES, 1, "path")


@given(identity=st.text(max_size=40), room=st.text(max_size=40))
def test_no_name_leads_out_of_its_folder(identity: str, room: str) -> None:
    track = Track(sid="TR_a", participant_identity=identity)
    template = "recordings/{room_name}/x{publisher_identity}/.{publisher_identity}/{track_id}"
    try:
        path = filled(template, values_of(track, room, ""), 1, "path")
    except InvalidField:
        return
    parts = path.split("/")
    assert (len(parts), parts[0], parts[-1]) == (5, "recordings", "TR_a")
    assert not set(parts) & {"", ".", ".."}
    assert not set(path) & set("{}\\\n\x00")
