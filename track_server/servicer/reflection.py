"""What server reflection looks symbols up in."""

from typing import Any

from google.protobuf import descriptor_pool


class Symbols:
    """The default descriptor pool, which by itself finds services and messages but no RPCs by their full names."""

    def __init__(self) -> None:
        self._pool: Any = descriptor_pool.Default()

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        """The file of a message, field, enum, service or RPC. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            name, _, rpc = symbol.rpartition(".")
            service = self._pool.FindServiceByName(name)
            if rpc not in service.methods_by_name:
                raise
            return service.file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)
