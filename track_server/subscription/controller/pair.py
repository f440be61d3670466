"""What is told of one subscriber and one track."""

from dataclasses import dataclass

from track.v1 import error_pb2
from track.v1.subscription_pb2 import DesiredSubscription, LayerDecision, LayerEnforcement


@dataclass(frozen=True, slots=True)
class PairState:
    """How it stands. ``desired``: None where nobody says anything of it. ``layer``: of video, where it is received or
    should be. ``unsupported``: settings that the subscriber's client cannot make, by their names in
    SubscriptionSettings. ``problem``: why it is not as it should be."""

    desired: DesiredSubscription | None
    layer: LayerDecision | None
    enforcement: LayerEnforcement.ValueType
    unsupported: tuple[str, ...] = ()
    corrections: int = 0
    problem: error_pb2.Problem | None = None
