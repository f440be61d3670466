"""Which attempt of a track a session is told of while one takes over from another."""

from track.media.v1.media_service_pb2 import HOSTED_TRACK_STATE_PUBLISHED, HostedTrackReport
from track.v1.publication_pb2 import Publication
from track_server.publishing import lifecycle
from track_server.publishing.lifecycle import LIVE
from track_server.publishing.retries import Retries
from track_server.publishing.takeovers import Takeovers
from track_server.rooms.room import now


def published(attempt: int, sid: str, previous: str = "", **facts: float) -> HostedTrackReport:
    return HostedTrackReport(
        publication_id="PUB_a",
        state=HOSTED_TRACK_STATE_PUBLISHED,
        attempt=attempt,
        track_sid=sid,
        previous_track_sid=previous,
        **facts,  # type: ignore[arg-type]
    )


def begun() -> tuple[Retries, Takeovers]:
    retries = Retries(lambda: None)
    retries.heard("PUB_a", 3)
    return retries, Takeovers(retries)


def test_the_old_track_stays_until_it_is_released() -> None:
    retries, takeovers = begun()
    takeover = takeovers.begin("PUB_a", "TR_old", graceful=True)
    assert (takeover.before, takeover.attempt, retries.number("PUB_a"), takeover.keeps) == (3, 4, 4, True)
    assert takeovers.published(published(3, "TR_old")) is None
    assert takeovers.published(published(4, "TR_new", "TR_old")) is takeover
    assert (takeover.new_sid, takeover.gone) == ("TR_new", False)
    takeover.released = True
    takeovers.published(published(4, "TR_new"))
    takeovers.published(published(4, "TR_new", gap_ms=12.0))
    assert (takeover.keeps, takeover.gone, takeover.gap_ms) == (False, True, 12.0)


def test_one_that_is_given_up_leaves_the_old_attempt_and_the_next_is_a_new_one() -> None:
    retries, takeovers = begun()
    takeover = takeovers.begin("PUB_a", "TR_old", graceful=True)
    assert takeovers.give_up("PUB_a") is takeover
    assert (takeover.over, retries.number("PUB_a"), takeovers.find("PUB_a")) == (True, 3, None)
    assert takeovers.begin("PUB_a", "TR_old", graceful=True).attempt == 5


def test_changes_are_counted_on_from_what_a_worker_has() -> None:
    _, takeovers = begun()
    takeovers.heard(HostedTrackReport(publication_id="PUB_a", change=7))
    assert takeovers.begin_change("PUB_a") == 8
    assert not takeovers.has_changed("PUB_a", 8)
    takeovers.heard(HostedTrackReport(publication_id="PUB_a", change=8))
    assert takeovers.has_changed("PUB_a", 8)


def test_a_live_publication_has_both_tracks_in_its_lineage_for_a_while() -> None:
    known = lifecycle.begin(Publication(publication_id="PUB_a"), now())
    known = lifecycle.live(lifecycle.move(known, lifecycle.STARTING, now()), "TR_old", now())
    both = lifecycle.succeeded(known, "TR_new", now())
    assert (both.state, both.track_sid, len(both.moves)) == (LIVE, "TR_new", len(known.moves))
    assert [entry.HasField("end_time") for entry in both.lineage] == [False, False]
    assert lifecycle.left(both, now(), beside="TR_old") == both
    after = lifecycle.left(both, now())
    assert [entry.HasField("end_time") for entry in after.lineage] == [True, False]
    # What is lost is lost whole.
    lost = lifecycle.move(both, lifecycle.RESTARTING, now())
    assert all(entry.HasField("end_time") for entry in lost.lineage)


def test_of_tracks_that_get_other_sids_during_a_takeover_none_stays_in_the_lineage_as_if_it_were_there() -> None:
    known = lifecycle.begin(Publication(publication_id="PUB_a"), now())
    known = lifecycle.live(lifecycle.move(known, lifecycle.STARTING, now()), "TR_old", now())
    both = lifecycle.succeeded(known, "TR_new", now())
    # LiveKit was lost: both are published once more.
    again = lifecycle.left(lifecycle.succeeded(both, "TR_new2", now()), now(), beside="TR_old2")
    assert there(again) == ["TR_new2"]
    # The worker took longer to take the old one away than anybody waited for it.
    assert there(lifecycle.live(both, "TR_new", now())) == ["TR_new"]


def test_a_takeover_that_failed_leaves_the_old_track_once_in_the_lineage() -> None:
    known = lifecycle.begin(Publication(publication_id="PUB_a"), now())
    known = lifecycle.live(lifecycle.move(known, lifecycle.STARTING, now()), "TR_old", now())
    back = lifecycle.left(lifecycle.succeeded(lifecycle.succeeded(known, "TR_new", now()), "TR_old", now()), now())
    assert (back.track_sid, there(back)) == ("TR_old", ["TR_old"])
    assert [entry.track_sid for entry in back.lineage] == ["TR_old", "TR_new"]


def there(publication: Publication) -> list[str]:
    """SIDs of its lineage that have not ended."""
    return [entry.track_sid for entry in publication.lineage if not entry.HasField("end_time")]
