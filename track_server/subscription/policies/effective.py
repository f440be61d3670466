"""What holds for a subscriber: its own policy over the room's. Pure."""

from dataclasses import dataclass

from track.v1.subscription_pb2 import SubscriptionAction, SubscriptionDefaults, SubscriptionPolicy
from track_server.subscription.policies.settings import filled, left_open


@dataclass(frozen=True, slots=True)
class Effective:
    """``policy``: without what is output only. ``inherited``: paths in it of what comes from the room.

    ``own``: how many of its rules, the first ones, are the subscriber's own.
    """

    policy: SubscriptionPolicy
    inherited: tuple[str, ...]
    own: int


def effective(identity: str, own: SubscriptionPolicy | None, room: SubscriptionPolicy | None) -> Effective:
    """What holds for that subscriber. ``own``: its policy; ``room``: the room's; one of them at least.

    Rules: its own, then the room's. Of the defaults, the action comes with its `client_may_choose`, and a layer with a
    size; every other setting, and the budget, by itself.
    """
    mine, theirs = own or SubscriptionPolicy(), room or SubscriptionPolicy()
    whole = SubscriptionPolicy(room=mine.room or theirs.room, participant_identity=identity)
    whole.rules.extend(mine.rules)
    whole.rules.extend(theirs.rules)
    inherited = [f"rules[{index}]" for index in range(len(mine.rules), len(whole.rules))]
    if mine.HasField("defaults") or theirs.HasField("defaults"):
        inherited += _fill_defaults(whole.defaults, mine.defaults, theirs.defaults)
    if mine.HasField("bandwidth_bps"):
        whole.bandwidth_bps = mine.bandwidth_bps
    elif theirs.HasField("bandwidth_bps"):
        whole.bandwidth_bps = theirs.bandwidth_bps
        inherited.append("bandwidth_bps")
    return Effective(whole, tuple(inherited), len(mine.rules))


def _fill_defaults(whole: SubscriptionDefaults, mine: SubscriptionDefaults, theirs: SubscriptionDefaults) -> list[str]:
    """Returns the paths of what is theirs."""
    inherited = []
    whole.CopyFrom(mine)
    if not _decides(mine):
        for name, value in (("action", theirs.action), ("client_may_choose", theirs.client_may_choose)):
            if value:
                setattr(whole, name, value)
                inherited.append(f"defaults.{name}")
    if theirs.HasField("settings"):
        inherited += [f"defaults.settings.{name}" for name in left_open(mine.settings, theirs.settings)]
        whole.settings.CopyFrom(filled(mine.settings, theirs.settings))
    return inherited


def _decides(defaults: SubscriptionDefaults) -> bool:
    unspecified = SubscriptionAction.SUBSCRIPTION_ACTION_UNSPECIFIED
    return defaults.action != unspecified or defaults.client_may_choose
