"""How much is going on at once, and the list of all limits."""

from hypothesis import given
from hypothesis import strategies as st

from track.v1.server_info_pb2 import QuotaScope
from track_server.config.limits import LimitSettings
from track_server.limits.connection import connection_options
from track_server.limits.counts import Counts
from track_server.limits.quotas import SCOPES, quotas


@given(st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=100))
def test_no_more_than_may_be_and_every_place_is_given_back(most: int, steps: list[tuple[bool, str]]) -> None:
    counts, open_now = Counts(most), {"a": 0, "b": 0, "c": 0}
    for enters, key in steps:
        if enters:
            assert counts.enter(key) == (open_now[key] < most)
            open_now[key] = min(most, open_now[key] + 1)
        elif open_now[key]:
            counts.leave(key)
            open_now[key] -= 1
        assert {key: counts.of(key) for key in open_now} == open_now
        assert len(counts) == sum(count > 0 for count in open_now.values())


def test_every_setting_of_a_limit_is_listed_with_its_scope() -> None:
    assert SCOPES.keys() == LimitSettings.model_fields.keys()
    assert QuotaScope.QUOTA_SCOPE_UNSPECIFIED not in SCOPES.values()
    listed = {quota.name: quota.value for quota in quotas(LimitSettings(max_connection_age_seconds=9))}
    assert listed == {name: getattr(LimitSettings(max_connection_age_seconds=9), name) for name in SCOPES}


def test_a_limit_that_is_switched_off_is_not_listed() -> None:
    assert "max_connection_age_seconds" not in {quota.name for quota in quotas(LimitSettings())}
    assert "max_publications" in {quota.name for quota in quotas(LimitSettings(max_publications=0))}


def test_the_options_of_connections_follow_the_settings() -> None:
    limits = LimitSettings(max_streams_per_connection=7, max_request_bytes=2000, max_header_bytes=9000)
    options = dict(connection_options(limits))
    assert options["grpc.max_concurrent_streams"] == 7
    # Beyond ours, so that what callers see is our refusal.
    assert options["grpc.max_receive_message_length"] > 2000
    assert options["grpc.max_metadata_size"] > 9000
    assert "grpc.max_connection_age_ms" not in options
    aged = dict(connection_options(LimitSettings(max_connection_age_seconds=60)))
    assert aged["grpc.max_connection_age_ms"] == 60_000
    assert aged["grpc.max_connection_age_grace_ms"] > 60_000
