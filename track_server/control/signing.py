"""The key with which this service signs what it says to companions: Ed25519 (RFC 8032), kept in the store."""

import hashlib
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from track.v1 import server_info_pb2
from track_server.store.records import Store
from track_server.store.secrets import kept_secret

PREFIX: Final = b"track.control.v1\n"
"""Stands before what is signed, so that the signature is good for nothing else."""

_KIND: Final = "control_key"
_KEY: Final = "ed25519"


class ControlKey:
    """A private key; ``seed``: its 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        public_key = self._private.public_key().public_bytes_raw()
        key_id = hashlib.blake2b(public_key, digest_size=8).hexdigest()
        self.public: Final = server_info_pb2.ControlKey(key_id=key_id, public_key=public_key)
        """What companions need to know of it."""

    @classmethod
    async def of(cls, store: Store) -> Self:
        """The store's key, made where there is none: servers on one store get the same. Raises StoreError."""
        return cls(await kept_secret(store, _KIND, _KEY, lambda: Ed25519PrivateKey.generate().private_bytes_raw()))

    def sign(self, command: str) -> bytes:
        """The signature of a command, 64 bytes."""
        return self._private.sign(PREFIX + command.encode())
