"""ListAdaptations: the actions in a room, and what they brought."""

from dataclasses import dataclass
from typing import Final

from track.v1.quality_policy_pb2 import (
    ListAdaptationsRequest,
    ListAdaptationsResponse,
    QualityEffect,
)
from track_server.cel import compile_filter, in_time
from track_server.errors import InvalidPageToken, StoreUnavailable
from track_server.paging import DEFAULT_PAGE_SIZE, page_token, position_in
from track_server.quality.acting.history import ActionHistory
from track_server.quality.acting.messages import MOVES, VERDICTS
from track_server.quality.core.adapting.action import Move
from track_server.quality.core.adapting.effect import effect
from track_server.quality.core.adapting.measure import Verdict
from track_server.store.records import StoreError

_CORE_MOVES: Final = {message: move for move, message in MOVES.items()}
_CORE_VERDICTS: Final = {message: verdict for verdict, message in VERDICTS.items()}
_MAX_SEQUENCE: Final = 2**63


@dataclass(frozen=True, slots=True)
class _Told:
    """See effect.Judged."""

    move: Move
    held: bool
    verdict: Verdict | None


class AdaptationListing:
    """Answers it."""

    def __init__(self, history: ActionHistory) -> None:
        self._history = history

    async def page(self, request: ListAdaptationsRequest) -> ListAdaptationsResponse:
        """Newest first. Raises InvalidExpression, InvalidPageToken, StoreUnavailable."""
        matches = in_time(compile_filter(request.filter, "action"))
        query = ("adaptations", request.room, request.filter)
        before = _before(request.page_token, query)
        size = request.page_size or DEFAULT_PAGE_SIZE
        answer = ListAdaptationsResponse()
        told: list[_Told] = []
        last = 0
        try:
            async for sequence, action in self._history.newest(request.room):
                if before is None and not action.applied_by:
                    told.append(_Told(_CORE_MOVES[action.move], action.held_back, _CORE_VERDICTS.get(action.verdict)))
                if answer.next_page_token or (before is not None and sequence >= before) or not matches(action):
                    continue
                if len(answer.actions) == size:
                    answer.next_page_token = page_token((last,), query)
                    if before is not None:
                        break
                    continue
                answer.actions.append(action)
                last = sequence
        except StoreError as error:
            raise StoreUnavailable("the actions cannot be read now") from error
        if before is None:
            answer.effect.CopyFrom(_effect(told))
        return answer


def _effect(told: list[_Told]) -> QualityEffect:
    found = effect(told)
    return QualityEffect(
        acted=found.acted,
        acted_improved=found.acted_improved,
        held_back=found.held,
        held_back_improved=found.held_improved,
        gain=found.gain,
        min_gain=found.gain_least,
        max_gain=found.gain_most,
    )


def _before(token: str, query: tuple[str, ...]) -> int | None:
    if not token:
        return None
    match position_in(token, query):
        case (int(before),) if 0 < before < _MAX_SEQUENCE:
            return before
    raise InvalidPageToken("the page token is damaged", field="page_token")
