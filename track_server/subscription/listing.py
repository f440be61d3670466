"""Who receives what: what should be, and what is seen."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from track.v1 import track_pb2
from track.v1.subscription_pb2 import (
    DesiredSubscription,
    ListSubscriptionsRequest,
    ListSubscriptionsResponse,
    Subscription,
    SubscriptionDecider,
)
from track_server.durations import timestamp_at
from track_server.errors import InvalidPageToken, TargetPermission
from track_server.paging import DEFAULT_PAGE_SIZE, page_token, position_in
from track_server.private_tracks.restrictions import Restrictions
from track_server.rooms.model import RoomModel
from track_server.rooms.rooms import Rooms
from track_server.subscription.choice import Choice
from track_server.subscription.choices import Choices
from track_server.subscription.controller.controllers import Controllers
from track_server.subscription.received import Received

# A look at the debug view takes time of the loop, and pages of a list are asked for one right after the other.
_SEEN_S: Final = 1.0

Place = tuple[str, str]
"""Identity of a subscriber, and a track's SID."""


class SubscriptionListing:
    """Answers ListSubscriptions."""

    def __init__(
        self,
        rooms: Rooms,
        restrictions: Restrictions,
        choices: Choices,
        controllers: Controllers,
        received: Received,
    ) -> None:
        self._rooms = rooms
        self._restrictions = restrictions
        self._choices = choices
        self._controllers = controllers
        self._received = received

    async def list(self, request: ListSubscriptionsRequest) -> ListSubscriptionsResponse:
        """A page. Raises RoomNotFound, InvalidPageToken, LiveKitUnavailable."""
        selection = (request.participant_identity, request.publisher_identity, request.track_sid)
        query = ("subscriptions", request.room, *selection)
        after = _after(request.page_token, query)
        limit = request.page_size or DEFAULT_PAGE_SIZE
        async with self._rooms.watch(request.room) as live:
            await self._received.look(live.name, within_s=_SEEN_S)
            found: list[Place] = []
            for place in self._places(live.model, request, after):
                found.append(place)
                if len(found) > limit:
                    break
            page = found[:limit]
            return ListSubscriptionsResponse(
                subscriptions=[self._subscription(live.model, place) for place in page],
                next_page_token=page_token(page[-1], query) if len(found) > limit else "",
                freshness=live.freshness(),
            )

    def _places(self, model: RoomModel, request: ListSubscriptionsRequest, after: Place) -> Iterator[Place]:
        """Those that are asked for, in order, after that one."""
        sids = sorted(track.sid for track in model.tracks.values() if _selected(track, request))
        identities = sorted(model.participants)
        if request.participant_identity:
            identities = [who for who in identities if who == request.participant_identity]
        for identity in identities[bisect_left(identities, after[0]) :]:
            may = model.participants[identity].permission.can_subscribe
            begin = bisect_right(sids, after[1]) if identity == after[0] else 0
            for sid in sids[begin:]:
                if model.tracks[sid].participant_identity == identity:
                    continue
                # Who may not is shown where it was chosen for it, with the problem that this is.
                if may or self._choices.of(model.name, identity, sid) is not None:
                    yield identity, sid

    def _subscription(self, model: RoomModel, place: Place) -> Subscription:
        identity, sid = place
        track = model.tracks[sid]
        found = Subscription(
            participant_identity=identity, track_sid=sid, publisher_identity=track.participant_identity
        )
        observed = self._received.of(model.name, identity, sid)
        if observed is not None:
            found.observed.CopyFrom(observed)
        state = self._controllers.state(model.name, identity, sid)
        subscriber = model.participants[identity]
        if not subscriber.permission.can_subscribe:
            self._tell_hindered(found, self._choices.of(model.name, identity, sid))
        elif not self._restrictions.allows(track, subscriber):
            # It holds without a controller too.
            found.desired.CopyFrom(_PRIVATE)
        if state is None:
            return found
        if state.desired is not None:
            found.desired.CopyFrom(state.desired)
        found.enforcement, found.corrections = state.enforcement, state.corrections
        if state.layer is not None:
            found.layer.CopyFrom(state.layer)
        if state.problem is not None:
            found.problem.CopyFrom(state.problem)
        return found

    def _tell_hindered(self, found: Subscription, choice: Choice | None) -> None:
        """Of one who may not subscribe: what was chosen all the same."""
        if choice is None:
            return
        found.desired.subscribed = choice.subscribe
        found.desired.decider = SubscriptionDecider.SUBSCRIPTION_DECIDER_MANUAL
        if choice.expire_time is not None:
            found.desired.expire_time.CopyFrom(timestamp_at(choice.expire_time))
        if choice.subscribe:
            error = TargetPermission(f"participant {found.participant_identity!r} may not subscribe")
            found.problem.CopyFrom(error.problem())


_PRIVATE: Final = DesiredSubscription(subscribed=False, decider=SubscriptionDecider.SUBSCRIPTION_DECIDER_PRIVATE_TRACK)


def _selected(track: track_pb2.Track, request: ListSubscriptionsRequest) -> bool:
    """Whether it is a media track that is asked for."""
    return (
        track.type != track_pb2.TRACK_TYPE_DATA
        and request.publisher_identity in ("", track.participant_identity)
        and request.track_sid in ("", track.sid)
    )


def _after(token: str, query: Sequence[str]) -> Place:
    """The place that the page begins after. Raises InvalidPageToken."""
    if not token:
        return "", ""
    match position_in(token, query):
        case (str(identity), str(sid)):
            return identity, sid
    raise InvalidPageToken("the page token is damaged", field="page_token")
