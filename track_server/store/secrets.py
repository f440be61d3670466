"""Secrets of this service's own, kept in its store: servers on one store share them."""

from collections.abc import Callable

from track_server.store.records import RevisionConflict, Store, StoreError


async def kept_secret(store: Store, kind: str, key: str, make: Callable[[], bytes]) -> bytes:
    """The secret of that kind and key, made where there is none: whoever makes one at the same time gets the same.

    Raises StoreError.
    """
    record = await store.get(kind, "", key)
    if record is None:
        secret = make()
        try:
            await store.put(kind, "", key, secret, expected_revision=0)
        except RevisionConflict:
            record = await store.get(kind, "", key)
        else:
            return secret
    if record is None:
        raise StoreError(f"the store lost the secret {kind}/{key} while it was read; start the server again")
    return record.body
