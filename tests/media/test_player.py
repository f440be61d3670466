"""Files are played to the sample: from where they are to begin, round after round."""

import asyncio
from itertools import pairwise

import pytest

from tests.media.clips import write_clip
from track_server import errors, mediafile
from track_server.media.inputs.decoder import AudioDecoder, Chunk, VideoDecoder
from track_server.media.inputs.player import Player
from track_server.media.inputs.timeline import Timelines

SAMPLE_S = 1 / 48_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> mediafile.ResolvedMedia:
    """Two seconds of AAC, which the codec pads, and H.264."""
    folder = tmp_path_factory.mktemp("player")
    return mediafile.resolve(write_clip(folder / "clip.mp4").name, folder, ())


@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_as_long_as_its_file(clip: mediafile.ResolvedMedia, channels: int) -> None:
    decoder = AudioDecoder(clip, channels)
    chunks = list(iter(decoder.next, None))
    decoder.close()
    assert chunks[0].position_s == 0
    assert sum(len(chunk.data) for chunk in chunks) == 2 * 48_000 * 2 * channels


def test_sound_goes_on_at_the_sample(clip: mediafile.ResolvedMedia) -> None:
    decoder = AudioDecoder(clip)
    decoder.seek(1.2345)
    first = decoder.next()
    decoder.close()
    assert first is not None
    assert first.position_s == pytest.approx(1.2345, abs=SAMPLE_S)


async def test_a_loop_begins_at_its_offset_and_goes_on_without_gap_or_overlap(clip: mediafile.ResolvedMedia) -> None:
    timelines, played = Timelines(), list[Chunk]()
    over = asyncio.Event()

    async def hear(chunk: Chunk) -> None:
        played.append(chunk)
        if chunk.position_s > 2.2:
            over.set()

    with timelines.hold("clip", 1.75) as timeline:
        player = Player(lambda: AudioDecoder(clip), timeline, True, 0.0, 1.75)
        await player.open()
        playing = asyncio.create_task(player.play(hear))
        async with asyncio.timeout(45):
            await over.wait()
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        await player.aclose()
    assert played[0].position_s == pytest.approx(1.75, abs=SAMPLE_S)
    for before, after in pairwise(played):
        assert after.position_s == pytest.approx(before.position_s + before.duration_s, abs=2 * SAMPLE_S)
    # The second half of the clip sounds, the first one does not.
    assert any(played[1].data)
    assert not any(played[-1].data[: len(played[-1].data) // 2])


async def test_what_begins_beyond_the_end_is_refused(clip: mediafile.ResolvedMedia) -> None:
    with Timelines().hold("clip", 5.0) as timeline:
        player = Player(lambda: VideoDecoder(clip, 160, 120, 15), timeline, False, 0.0, 5.0)
        with pytest.raises(errors.InvalidField) as raised:
            await player.open()
        await player.aclose()
    assert raised.value.field == "file.start_offset"
