"""Restarts: which levels apply, when one was enough, and whose turn it is."""

from typing import Any

import pytest

from track.v1.error_pb2 import ERROR_REASON_RESTART_IN_PROGRESS
from track.v1.publication_pb2 import STAGE_REQUESTED, PublicationRoute
from track.v1.publication_update_pb2 import RestartTrackRequest
from track.v1.track_pb2 import TrackType
from track_server.deadline import Deadline
from track_server.errors import DeadlineTooShort, InvalidOptions, NotSupported, RestartInProgress
from track_server.publishing.restarting.course import Course
from track_server.publishing.restarting.levels import (
    DEFAULT,
    KEYFRAME,
    REJOIN,
    REPUBLISH,
    RESUBSCRIBE,
    Level,
    MediaFlow,
    Restartable,
    is_enough,
    levels_of,
)
from track_server.publishing.restarting.restarts import Restarts
from track_server.publishing.restarting.turns import Turns

VIDEO, AUDIO, DATA = TrackType.TRACK_TYPE_VIDEO, TrackType.TRACK_TYPE_AUDIO, TrackType.TRACK_TYPE_DATA
HOSTED = PublicationRoute.PUBLICATION_ROUTE_HOSTED
CLIENT = PublicationRoute.PUBLICATION_ROUTE_CLIENT
INGRESS = PublicationRoute.PUBLICATION_ROUTE_INGRESS
FOREIGN = PublicationRoute.PUBLICATION_ROUTE_UNSPECIFIED


@pytest.mark.parametrize(
    ("what", "levels"),
    [
        (Restartable(VIDEO, HOSTED), (KEYFRAME, RESUBSCRIBE, REPUBLISH, REJOIN)),
        (Restartable(AUDIO, HOSTED), (RESUBSCRIBE, REPUBLISH, REJOIN)),
        (Restartable(DATA, HOSTED), (REPUBLISH, REJOIN)),
        (Restartable(DATA, HOSTED, messages=True), (REJOIN,)),
        (Restartable(VIDEO, CLIENT), (KEYFRAME, RESUBSCRIBE, REPUBLISH)),
        (Restartable(VIDEO, FOREIGN), (KEYFRAME, RESUBSCRIBE, REPUBLISH)),
        (Restartable(AUDIO, FOREIGN), (RESUBSCRIBE, REPUBLISH)),
    ],
)
def test_by_default_the_levels_that_apply_are_gone_through_from_the_mildest(
    what: Restartable, levels: tuple[Level, ...]
) -> None:
    assert levels_of(what, DEFAULT, graceful=False) == levels
    for level in (KEYFRAME, RESUBSCRIBE, REPUBLISH, REJOIN):
        if level in levels:
            assert levels_of(what, level, graceful=level == REPUBLISH) == (level,)
        else:
            with pytest.raises(NotSupported):
                levels_of(what, level, graceful=False)


@pytest.mark.parametrize("level", [KEYFRAME, RESUBSCRIBE, REJOIN])
def test_only_publishing_again_can_be_graceful(level: Level) -> None:
    with pytest.raises(InvalidOptions) as caught:
        levels_of(Restartable(VIDEO, HOSTED), level, graceful=True)
    assert caught.value.field == "graceful"


@pytest.mark.parametrize("level", [DEFAULT, REPUBLISH])
def test_an_ingress_is_not_restarted(level: Level) -> None:
    with pytest.raises(NotSupported):
        levels_of(Restartable(VIDEO, INGRESS), level, graceful=False)


@pytest.mark.parametrize(
    ("level", "flow", "enough"),
    [
        (KEYFRAME, MediaFlow(sent=True), True),
        (KEYFRAME, MediaFlow(sent=True, served=2), True),
        (KEYFRAME, MediaFlow(sent=True, served=1, starved=1), False),
        (RESUBSCRIBE, MediaFlow(sent=True, served=1, starved=1), True),
        (RESUBSCRIBE, MediaFlow(sent=True, starved=2), False),
        (REPUBLISH, MediaFlow(sent=True, starved=2), False),
        (KEYFRAME, MediaFlow(sent=False, served=2), False),
        (REJOIN, MediaFlow(sent=False), False),
        (KEYFRAME, MediaFlow(sent=None, served=1), True),
        (KEYFRAME, MediaFlow(sent=None, starved=1), False),
    ],
)
def test_the_ladder_ends_where_media_flows(level: Level, flow: MediaFlow, enough: bool) -> None:
    assert is_enough(level, flow, muted=False, took_effect=True) is enough


@pytest.mark.parametrize("took_effect", [True, False])
def test_where_no_flow_can_be_seen_an_effect_is_enough(took_effect: bool) -> None:
    assert is_enough(KEYFRAME, MediaFlow(None), muted=False, took_effect=took_effect) is took_effect
    assert is_enough(KEYFRAME, MediaFlow(sent=False), muted=True, took_effect=took_effect) is took_effect


def test_one_at_a_time_and_a_while_between_two() -> None:
    turns = Turns(5.0)
    turns.begin("a", 100.0)
    with pytest.raises(RestartInProgress) as caught:
        turns.begin("a", 101.0)
    assert caught.value.reason == ERROR_REASON_RESTART_IN_PROGRESS
    assert caught.value.retry_delay_s
    turns.begin("b", 101.0)
    turns.end("a", 102.0, begun=True)
    with pytest.raises(RestartInProgress) as caught:
        turns.require("a", 103.0)
    assert caught.value.retry_delay_s == pytest.approx(4.0)
    turns.begin("a", 107.0)


def test_what_was_refused_before_anything_was_done_delays_nothing() -> None:
    turns = Turns(5.0)
    turns.begin("a", 100.0)
    turns.end("a", 100.0, begun=False)
    turns.begin("a", 100.0)


async def test_a_restart_that_has_no_time_is_not_begun() -> None:
    nobody: Any = None
    restarts = Restarts(*[nobody] * 7, cooldown_s=1)
    request = RestartTrackRequest(room="r", track_sid="TR_a")
    with pytest.raises(DeadlineTooShort):
        await restarts.restart(nobody, request, Deadline.after(0.01), nobody)


def test_a_restart_that_has_not_come_to_its_first_level_says_that_it_was_asked_for() -> None:
    nobody: Any = None
    assert Course(nobody, (), explicit=False).answer.stage == STAGE_REQUESTED
