"""What a watch makes of numbers that cease, of a muted source, and of two who tell the same."""

from tests.quality.core.readings import received, sent
from tests.quality.core.simulation import down, up
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Media, Source
from track_server.quality.core.measuring.sample import MAX_AGE_S
from track_server.quality.core.scoring.level import STALE_S, Level
from track_server.quality.core.watch import SHORT_S, Subject, Watch

SOUND = Subject("TR_a", "alice", Media.AUDIO)


def test_of_numbers_that_ceased_there_is_soon_no_score_and_no_level() -> None:
    watch = Watch(up(), SOUND)
    for second in range(10):
        watch.add([sent(second)])
        assert watch.tick(float(second)).score is not None or second == 0
    last_s = 9.0
    for second in range(10, 60):
        seen = watch.tick(float(second))
        assert seen.sample is not None, "they are told with their age"
        assert (seen.score is not None) is (second - last_s <= SHORT_S)
        assert (watch.score(seen.sample) is not None) is (second - last_s <= MAX_AGE_S)
        assert seen.level is (Level.EXCELLENT if second - last_s <= SHORT_S + STALE_S else None)
    watch.add([sent(60)])
    watch.add([sent(61)])
    assert watch.tick(61.0).level is Level.EXCELLENT


def test_a_muted_microphone_is_not_told_to_be_silent() -> None:
    watch = Watch(up(), SOUND)
    watch.expect(Expected(muted=True))
    for second in range(40):
        # The companion of a browser tells the level of a muted track: 0.
        watch.add([sent(second, source=Source.COMPANION, audio_level=0.0, brightness=0.0)])
        seen = watch.tick(float(second))
        assert not seen.changes
        assert seen.sample is not None
        assert (seen.sample.audio_level, seen.sample.brightness) == (None, None)
    watch.expect(Expected())
    kinds = set()
    for second in range(40, 70):
        watch.add([sent(second, source=Source.COMPANION, audio_level=0.0)])
        kinds |= {(change.kind, second) for change in watch.tick(float(second)).changes}
    assert kinds == {(AlertKind.SILENT_SOURCE, 55)}, "silence counts from when it is unmuted"


def test_sound_that_was_made_up_is_counted_once_though_two_tell_of_it() -> None:
    watch = Watch(down(), SOUND)
    for second in range(6):
        samples = {"samples": 48_000 * second, "concealed": 4_800 * second}
        for source in (Source.COMPANION, Source.REPORTED):
            watch.add([received(second, source=source, frames=None, width=None, height=None, **samples)])
    concealed = watch.meter.taken().concealed
    assert concealed is not None
    assert (concealed.lost, concealed.expected) == (5 * 5, 5 * 50)
