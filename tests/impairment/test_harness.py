"""`make impair` in small: real media over a bad line, the service's words, and the relay's truth of both directions."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from bench.impairment import judging
from bench.impairment.campaign import site
from bench.impairment.oracle import line_name
from bench.impairment.profiles import LOSS, PROFILES, Hop, Phase, Planned, Profile
from bench.impairment.stage import PUBLISHER, staged
from bench.impairment.told import Flow, ToldAlert
from bench.impairment.truth import lost
from tests.impairment.line import Bounds
from track.v1.quality_alert_pb2 import QUALITY_FAULT_PUBLISHER_UPLINK, QUALITY_HOP_DOWNLINK, QUALITY_HOP_UPLINK

WAIT_S: Final = 45.0
LOST: Final = 0.25
PLANNED: Final = Planned(Profile(name="short", phases=(Phase(1),)), Hop.UPLINK, "pull", 0)


@pytest.mark.deadline(240)
async def test_what_is_done_to_an_uplink_is_told_of_that_uplink_as_the_relay_counts_it(tmp_path: Path) -> None:
    async with site(tmp_path, seed=1, browser=False) as here:
        async with staged(here, "short", PLANNED) as stage:
            sid = stage.tracks["sound"]
            uplink = Flow(sid, QUALITY_HOP_UPLINK, PUBLISHER)
            downlink = Flow(sid, QUALITY_HOP_DOWNLINK, stage.subscriber)
            async with asyncio.timeout(WAIT_S):
                while not (stage.witness.measured(sid, uplink.hop) and stage.witness.measured(sid, downlink.hop)):
                    stage.witness.check()
                    await asyncio.sleep(0.2)
            begin_s = await here.relay.change(line_name("short", PUBLISHER), Hop.UPLINK, Bounds(loss=LOST))
            async with asyncio.timeout(WAIT_S):
                while not (found := _found(stage.witness.alerts(), uplink)):
                    stage.witness.check()
                    await asyncio.sleep(0.2)
            end_s = await here.relay.change(line_name("short", PUBLISHER), Hop.UPLINK, Bounds())
            everything = await stage.witness.end([])
        truth = await here.oracle.truth("short")
    assert all(alert.on_s > begin_s for alert in found)
    assert {alert.fault for alert in found} == {QUALITY_FAULT_PUBLISHER_UPLINK}
    sent, received = truth.uplink(sid, PUBLISHER), truth.downlink(sid, stage.subscriber)
    assert lost(sent, begin_s, end_s).part > 0
    assert lost(sent, 0, begin_s).part == lost(received, 0, end_s).part == 0
    assert lost(received, 0, end_s).whole > 0
    # What was told rises where packets were dropped: the direction, and not the figure.
    told = [each for each in everything.reports if each.flow == uplink]
    points, _ = judging.loss_errors(told, sent, 5)
    assert points
    assert any(error.told > 0 for error in points)
    assert everything.recording


def _found(alerts: list[ToldAlert], flow: Flow) -> list[ToldAlert]:
    return [alert for alert in alerts if alert.flow == flow and alert.kind in LOSS]


def test_figures_are_judged_on_other_profiles_than_thresholds_were_set_on() -> None:
    tuned = {profile.name for profile in PROFILES if profile.tuned}
    assert tuned
    assert not [profile for profile in PROFILES if profile.tuned and profile.latency]
    assert len({profile.name for profile in PROFILES}) == len(PROFILES)
