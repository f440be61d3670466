"""How settings of rules and defaults are put together. Pure."""

from collections.abc import Iterator
from typing import Final

from track.v1.subscription_pb2 import LayerFallback, SubscriptionSettings

_UNSPECIFIED: Final = LayerFallback.LAYER_FALLBACK_UNSPECIFIED
_SIZE: Final = ("quality", "width", "height")
"""They say one thing in two ways: who says it says all of it."""
_VIDEO_ALONE: Final = (*_SIZE, "frames_per_second", "fallback")


def set_fields(settings: SubscriptionSettings) -> list[str]:
    """The names of the fields that say something, in the contract's order."""
    return [field.name for field, _ in settings.ListFields()]


def of_video_alone(settings: SubscriptionSettings) -> list[str]:
    """Likewise, of those that say nothing about sound."""
    return [name for name in set_fields(settings) if name in _VIDEO_ALONE]


def for_sound(settings: SubscriptionSettings) -> SubscriptionSettings:
    """The settings without what is for video alone."""
    kept = SubscriptionSettings()
    kept.CopyFrom(settings)
    for name in _VIDEO_ALONE:
        kept.ClearField(name)
    return kept


def filled(settings: SubscriptionSettings, defaults: SubscriptionSettings) -> SubscriptionSettings:
    """The settings, each that they leave open from the defaults."""
    whole = SubscriptionSettings()
    whole.CopyFrom(settings)
    for name in left_open(settings, defaults):
        setattr(whole, name, getattr(defaults, name))
    return whole


def left_open(settings: SubscriptionSettings, defaults: SubscriptionSettings) -> Iterator[str]:
    """What `filled` takes from the defaults."""
    said = set(set_fields(settings))
    if said & set(_SIZE):
        said |= set(_SIZE)
    yield from (name for name in set_fields(defaults) if name not in said)
