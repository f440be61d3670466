"""The door for media files and URLs: what may be opened, and what is told about what may not."""

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.media.clips import write_clip
from track.v1.track_pb2 import TrackType
from track_server import errors, mediafile

EITHER = TrackType.TRACK_TYPE_UNSPECIFIED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A media folder with good and bad files in it, and one file beside it."""
    base = tmp_path_factory.mktemp("door")
    folder = base / "media"
    (folder / "deep").mkdir(parents=True)
    write_clip(base / "secret.mp4", 0.4)
    write_clip(folder / "clip.mp4", 0.4)
    write_clip(folder / "deep" / "sound.wav", 0.4, video=False)
    (folder / "text.mp4").write_text("no media at all")
    (folder / "empty.mp4").touch()
    (folder / "broken.mp4").write_bytes((folder / "clip.mp4").read_bytes()[:800])
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{base}/secret.mp4\n#EXT-X-ENDLIST\n"
    (folder / "list.m3u8").write_text(playlist)
    (folder / "list.mp4").write_text(playlist)
    (folder / "all.ffconcat").write_text(f"ffconcat version 1.0\nfile {base}/secret.mp4\n")
    (folder / "way-out.mp4").symlink_to(base / "secret.mp4")
    (folder / "dir-out").symlink_to(base)
    (folder / "way-in.mp4").symlink_to("clip.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    return folder


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved.mp4":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/clip.mp4")  # type: ignore[attr-defined]
            self.end_headers()
        elif self.path == "/hangs.mp4":
            time.sleep(60)
        else:
            super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[str]:
    """`host:port` of a web server on loopback that serves the folder."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("uri", ["clip.mp4", "way-in.mp4", "deep/../clip.mp4", "dir-out/media/clip.mp4", "./clip.mp4"])
def test_a_file_in_the_folder_is_let_in_and_described(folder: Path, uri: str) -> None:
    info = mediafile.probe(mediafile.resolve(uri, folder, ()), EITHER)
    assert (info.width, info.height, info.has_audio, info.has_video) == (160, 120, True, True)
    assert info.frames_per_second == pytest.approx(15)
    assert info.duration_s == pytest.approx(0.4, abs=0.1)


def test_an_absolute_path_counts_where_it_leads(folder: Path) -> None:
    assert mediafile.resolve(str(folder / "clip.mp4"), folder, ()).location.endswith("/clip.mp4")
    with pytest.raises(errors.MediaNotAllowed):
        mediafile.resolve(str(folder.parent / "secret.mp4"), folder, ())


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("../secret.mp4", errors.MediaNotAllowed),
        ("../not-there.mp4", errors.MediaNotAllowed),
        ("way-out.mp4", errors.MediaNotAllowed),
        ("dir-out/secret.mp4", errors.MediaNotAllowed),
        ("/etc/passwd", errors.MediaNotAllowed),
        ("file:///etc/passwd", errors.MediaNotAllowed),
        ("ftp://127.0.0.1/a.mp4", errors.MediaNotAllowed),
        ("concat:clip.mp4|clip.mp4", errors.MediaNotFound),
        ("file:clip.mp4", errors.MediaNotFound),
        ("not-there.mp4", errors.MediaNotFound),
        ("deep", errors.MediaNotFound),
        (".", errors.MediaNotFound),
        ("loop.mp4", errors.MediaNotFound),
        ("", errors.InvalidField),
        ("a\0b", errors.InvalidField),
        ("x" * 3000, errors.InvalidField),
    ],
)
def test_what_must_not_be_opened_is_not_resolved(folder: Path, uri: str, error: type[errors.TrackError]) -> None:
    with pytest.raises(error) as caught:
        mediafile.resolve(uri, folder, ())
    assert str(folder.parent) not in caught.value.message
    assert caught.value.field == "file.uri"


def test_without_a_folder_no_file_is_let_in() -> None:
    with pytest.raises(errors.MediaNotAllowed):
        mediafile.resolve("clip.mp4", None, ())


@pytest.mark.parametrize("uri", ["text.mp4", "empty.mp4", "broken.mp4", "list.m3u8", "list.mp4", "all.ffconcat"])
def test_what_is_no_media_or_refers_to_other_files_is_refused(folder: Path, uri: str) -> None:
    with pytest.raises(errors.MediaInvalid) as caught:
        mediafile.probe(mediafile.resolve(uri, folder, ()), EITHER)
    assert str(folder.parent) not in caught.value.message


def test_a_stream_of_the_wanted_type_must_be_there(folder: Path) -> None:
    sound = mediafile.resolve("deep/sound.wav", folder, ())
    assert mediafile.probe(sound, TrackType.TRACK_TYPE_AUDIO).has_video is False
    with pytest.raises(errors.MediaInvalid):
        mediafile.probe(sound, TrackType.TRACK_TYPE_VIDEO)


@pytest.mark.parametrize(
    ("uri", "hosts", "allowed"),
    [
        ("http://media.example/a.mp4", ["media.example"], True),
        ("https://media.example/a.mp4?x=1", ["media.example"], True),
        ("http://MEDIA.example/a.mp4", ["Media.Example"], True),
        ("http://media.example:8080/a.mp4", ["media.example:8080"], True),
        ("http://[::1]:8080/a.mp4", ["[::1]:8080"], True),
        ("http://media.example:8080/a.mp4", ["media.example"], False),
        ("http://media.example/a.mp4", ["media.example:8080"], False),
        ("http://evil.example/a.mp4", ["media.example"], False),
        ("http://media.example.evil.example/a.mp4", ["media.example"], False),
        ("http://evil.example/?media.example", ["media.example"], False),
        ("http://media.example/a.mp4", [], False),
    ],
)
def test_only_listed_hosts_are_let_in(uri: str, hosts: list[str], allowed: bool) -> None:
    if allowed:
        assert mediafile.resolve(uri, None, hosts).uri == uri
    else:
        with pytest.raises(errors.MediaNotAllowed):
            mediafile.resolve(uri, None, hosts)


@pytest.mark.parametrize(
    "uri",
    [
        "http://media.example@evil.example/a.mp4",
        "http://user:pass@media.example/a.mp4",
        "http://evil.example\\@media.example/a.mp4",
        "http://media.example:99999/a.mp4",
        "http://[::1/a.mp4",
        "http:///a.mp4",
    ],
)
def test_a_url_that_can_be_read_in_two_ways_is_malformed(uri: str) -> None:
    with pytest.raises(errors.InvalidField):
        mediafile.resolve(uri, None, ["media.example", "evil.example"])


def test_a_url_with_a_user_is_refused_with_that_reason() -> None:
    with pytest.raises(errors.InvalidField, match="a user"):
        mediafile.resolve("http://user:pass@media.example/a.mp4", None, ["media.example"])


def test_a_url_is_read_from_its_host_alone(folder: Path, host: str) -> None:
    def probe(path: str) -> mediafile.MediaInfo:
        return mediafile.probe(mediafile.resolve(f"http://{host}{path}", None, [host]), EITHER)

    assert probe("/clip.mp4").width == 160
    with pytest.raises(errors.MediaNotFound):
        probe("/not-there.mp4")
    for path in ("/moved.mp4", "/list.m3u8", "/text.mp4"):
        with pytest.raises(errors.MediaInvalid, match="the URL cannot be read as media"):
            probe(path)


def test_a_host_that_hangs_is_not_waited_for(host: str) -> None:
    begin = time.monotonic()
    with pytest.raises(errors.MediaInvalid):
        mediafile.probe(mediafile.resolve(f"http://{host}/hangs.mp4", None, [host]), EITHER)
    assert time.monotonic() - begin < 30
