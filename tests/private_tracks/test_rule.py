"""Rules of who may subscribe: what they allow, and what is refused."""

import pytest

from track.v1 import subscription_permission_pb2 as pb
from track.v1 import track_pb2
from track_server.errors import InvalidArgument, InvalidOptions
from track_server.private_tracks.rule import Rule


def participant(identity: str, **attributes: str) -> track_pb2.Participant:
    return track_pb2.Participant(identity=identity, attributes=attributes)


def test_who_is_named_or_matches_may() -> None:
    rule = Rule(
        pb.TrackSubscriptionRule(participant_identities=["ann"], filter='participant.attributes["role"] == "staff"')
    )
    everybody = [participant("ann"), participant("ben", role="staff"), participant("cora", role="guest")]
    assert rule.allowed(everybody) == {"ann", "ben"}


@pytest.mark.parametrize(
    "text",
    [
        'participant.attributes["missing"] == "x"',
        "1 / int(participant.name) == 1",
        "participant.attributes.all(a, participant.attributes.all(b, a == b)) && participant.name == 'x'",
    ],
)
def test_a_filter_that_fails_allows_nobody(text: str) -> None:
    assert not Rule(pb.TrackSubscriptionRule(filter=text)).allows(participant("ann", a="1", b="2"))


def test_nobody_is_nobody() -> None:
    assert Rule(pb.TrackSubscriptionRule(nobody=True)).allowed([participant("ann")]) == frozenset()


@pytest.mark.parametrize(
    "message",
    [
        pb.TrackSubscriptionRule(),
        pb.TrackSubscriptionRule(filter=" "),
        pb.TrackSubscriptionRule(filter="participant.nothing"),
        pb.TrackSubscriptionRule(filter="track.name == ''"),
        pb.TrackSubscriptionRule(nobody=True, participant_identities=["ann"]),
        pb.TrackSubscriptionRule(nobody=True, filter="true"),
    ],
)
def test_what_is_no_rule_is_refused(message: pb.TrackSubscriptionRule) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Rule(message)
    assert refused.value.field.startswith("rule")


def test_the_publisher_is_not_to_be_named() -> None:
    with pytest.raises(InvalidOptions):
        Rule(pb.TrackSubscriptionRule(participant_identities=["ann"])).refuse_publisher("ann")
