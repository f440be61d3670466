"""A simulated room: one publisher of sound and video, subscribers on links of their own, and the adaptation closed
over them."""

import random
from dataclasses import dataclass, field

from tests.quality.core.simulation import AUDIO, AUDIO_BPS, LAYERS_BPS, VIDEO, Link, Picture, Sound
from track_server.quality.core.adapting.action import Action
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.adapting.ladder import HIGH, Family, Line, Policy, Timing
from track_server.quality.core.assessment import Assessed, Assessment
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Flow, Hop, Source
from track_server.quality.core.watch import Subject


@dataclass
class Subscriber:
    name: str
    link: Link
    sfu_cap: int = HIGH
    concealed: int = 0
    layers: list[int] = field(default_factory=list)


class Room:
    def __init__(
        self, subscribers: list[Subscriber], *, policy: Policy | None, uplink: Link | None = None, seed: int = 1,
        timing: Timing | None = None,
    ) -> None:  # fmt: skip
        self.timing = timing or Timing()
        self.uplink = uplink or Link(seed=99)
        self.adaptation = Adaptation(lambda _: policy, self.timing, random.Random(seed)) if policy else None
        self.assessment = Assessment(self.adaptation)
        self.subscribers = subscribers
        self.now = 1000
        self.actions: list[Action] = []
        self.alerts: list[tuple[int, object]] = []
        self.frozen_s = 0
        self.streams: list[tuple[Subscriber, Sound, Picture]] = []
        audio, video = Subject("TR_a", "alice", AUDIO), Subject("TR_v", "alice", VIDEO)
        up_audio = Flow("TR_a", Hop.UPLINK, "alice")
        self.up = Sound(up_audio, self.uplink, Source.PUBLISHER_STATS, ssrc=9)
        self.assessment.begin(up_audio, audio)
        for each in subscribers:
            flow_a, flow_v = Flow("TR_a", Hop.DOWNLINK, each.name), Flow("TR_v", Hop.DOWNLINK, each.name)
            self.assessment.begin(flow_a, audio)
            self.assessment.begin(flow_v, video)
            sound = Sound(flow_a, each.link, Source.SUBSCRIBER_STATS)
            self.streams.append((each, sound, Picture(flow_v, each.link, Source.SUBSCRIBER_STATS)))

    def ceiling(self, identity: str) -> int:
        if self.adaptation is None:
            return HIGH
        rungs = self.adaptation.rungs()
        found = [rungs[line].quality for line in rungs if line.identity in (identity, "alice")]
        return min([HIGH, *(quality for quality in found if quality is not None)])

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second()

    def second(self) -> Assessed:
        self.now += 1
        now = float(self.now)
        caps = {each.name: min(self.ceiling(each.name), each.sfu_cap) for each in self.subscribers}
        highest = max(caps.values(), default=HIGH)
        shared = self.uplink.overflow(AUDIO_BPS + sum(LAYERS_BPS[layer] for layer in range(highest + 1)))
        reading = self.up.second(now, shared)
        gone = 1 - (1 - self.uplink.loss) * (1 - shared) if not self.uplink.down else 1.0
        self.assessment.add(self.up.flow, [reading])
        for each, sound, picture in self.streams:
            layer = caps[each.name]
            each.layers.append(layer)
            more = each.link.overflow(AUDIO_BPS + LAYERS_BPS[layer])
            more = 1 - (1 - more) * (1 - gone)
            before = sound.concealed
            self.assessment.add(sound.flow, [sound.second(now, more)])
            each.concealed += sound.concealed - before
            self.assessment.expect(picture.flow, Expected(wanted=layer > 0))
            self.assessment.receives(picture.flow, layer)
            self.assessment.add(picture.flow, [picture.second(now, layer, more)])
        assessed = self.assessment.tick(now)
        self.actions += assessed.actions
        self.alerts += [(self.now, alert) for alert in assessed.alerts]
        if self.adaptation is not None and self.adaptation.frozen(now):
            self.frozen_s += 1
        return assessed

    def done(self) -> list[Action]:
        return [action for action in self.actions if action.verdict is None]

    def judged(self) -> list[Action]:
        return [action for action in self.actions if action.verdict is not None]


__all__ = ["Family", "Line", "Room", "Subscriber"]
