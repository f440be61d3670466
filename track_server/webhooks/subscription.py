"""A webhook subscription as it is kept: what its maker asked for, and who that was."""

from dataclasses import dataclass
from typing import Self

from track.v1 import access_pb2, event_pb2, webhook_pb2
from track_server.access.principal import Principal, remembered
from track_server.rooms.selection import Selection
from track_server.texts import public_uri

_PREFIX_BYTES = 4


@dataclass(frozen=True, slots=True)
class Subscription:
    """``message``: of it only what never changes; the URL whole."""

    message: webhook_pb2.WebhookSubscription
    principal: Principal
    selection: Selection

    @classmethod
    def of(cls, message: webhook_pb2.WebhookSubscription, principal: Principal) -> Self:
        """Raises InvalidExpression."""
        return cls(message, principal, Selection.of(message.kinds, message.filter))

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """What ``encode`` wrote. Raises InvalidExpression where its filter compiles no more."""
        size = int.from_bytes(body[:_PREFIX_BYTES], "big")
        middle = _PREFIX_BYTES + size
        principal = remembered(access_pb2.Principal.FromString(body[_PREFIX_BYTES:middle]))
        return cls.of(webhook_pb2.WebhookSubscription.FromString(body[middle:]), principal)

    def encode(self) -> bytes:
        """As the store keeps it."""
        principal = self.principal.message.SerializeToString()
        return len(principal).to_bytes(_PREFIX_BYTES, "big") + principal + self.message.SerializeToString()

    @property
    def id(self) -> str:
        """Its id."""
        return self.message.subscription_id

    @property
    def room(self) -> str:
        """The room that it is of; empty: all."""
        return self.message.room

    def about(self, room: str) -> bool:
        """Whether it is about that room."""
        return self.room in ("", room)

    def selects(self, room: str, event: event_pb2.RoomEvent) -> bool:
        """Whether that event is to be sent."""
        return self.selection.matches(room, event)

    def shown(self) -> webhook_pb2.WebhookSubscription:
        """A new message of it, without the query of its URL, which may be a secret."""
        shown = webhook_pb2.WebhookSubscription()
        shown.CopyFrom(self.message)
        shown.url = public_uri(self.message.url)
        return shown
