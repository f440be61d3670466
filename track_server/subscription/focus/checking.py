"""What of a focus cannot be meant."""

from collections.abc import Iterator
from typing import Final

from track.v1.subscription_pb2 import Focus, FocusTarget, SubscriptionSettings
from track_server.errors import InvalidField, InvalidOptions
from track_server.rooms.model import RoomModel
from track_server.rooms.reading import find_track

_OF_VIDEO: Final = ("quality", "width", "height", "frames_per_second", "fallback")


def check(focus: Focus, model: RoomModel, subscriber: str) -> None:
    """``subscriber``: whose it is, empty: the room's. ``focus``: a field of a request, by that name.

    Raises InvalidField, InvalidOptions, TrackNotFound.
    """
    _check_others(focus.others)
    if not (focus.pinned or focus.on_stage or focus.last_speakers or focus.screen_share_first or _says(focus.others)):
        raise InvalidField("the focus is empty: to have none, clear it", field="focus")
    whole: dict[str, str] = {}
    single: dict[str, str] = {}
    for place, target in _targets(focus):
        if target.WhichOneof("target") == "participant_identity":
            field, named, known = f"{place}.participant_identity", target.participant_identity, whole
            publisher = named
        else:
            field, named, known = f"{place}.track_sid", target.track_sid, single
            publisher = find_track(model.tracks, named, field).participant_identity
        if subscriber and publisher == subscriber:
            raise InvalidOptions("a subscriber does not receive its own tracks", field=field)
        if named in known:
            raise InvalidField(f"{named!r} is named twice, first as {known[named]}", field=field)
        if known is single and publisher in whole:
            raise InvalidField(
                f"all tracks of {publisher!r} are named already, as {whole[publisher]}: name the track before it",
                field=field,
            )
        known[named] = place.removeprefix("focus.")


def _targets(focus: Focus) -> Iterator[tuple[str, FocusTarget]]:
    for index, target in enumerate(focus.pinned):
        yield f"focus.pinned[{index}]", target
    for index, target in enumerate(focus.on_stage):
        yield f"focus.on_stage[{index}]", target


def _says(settings: SubscriptionSettings) -> bool:
    return settings.HasField("enabled") or any(_has(settings, name) for name in _OF_VIDEO)


def _has(settings: SubscriptionSettings, name: str) -> bool:
    return bool(settings.fallback) if name == "fallback" else settings.HasField(name)  # type: ignore[arg-type]


def _check_others(others: SubscriptionSettings) -> None:
    if others.HasField("priority"):
        raise InvalidOptions("what is not in focus has no priority of the focus", field="focus.others.priority")
    if others.HasField("enabled") and not others.enabled:
        for name in _OF_VIDEO:
            if _has(others, name):
                raise InvalidOptions("what is not received has no other settings", field=f"focus.others.{name}")
