"""What a permission service may answer. Everything else is no answer, and never an allow. Pure."""

from typing import Any, Final, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from protovalidate import Validator

from track.permission.v1 import permission_service_pb2 as pb
from track.v1.access_pb2 import Permission
from track_server.errors import PermissionServiceUnavailable

MAX_LIFETIME_S: Final = 10 * 365 * 86400
"""Ten years: a decision that is to be kept for longer has its units wrong."""
MAX_TOKEN_BYTES: Final = 4096
"""Of a consistency token, which goes along with every later question."""

_DECISIONS: Final = frozenset({pb.DECISION_ALLOWED, pb.DECISION_DENIED})
_PERMISSIONS: Final = frozenset(Permission.values()) - {Permission.PERMISSION_UNSPECIFIED}

M = TypeVar("M", bound=Message)


class BrokenContract(Exception):
    """What is wrong with an answer; for the log."""


class MalformedAnswer(PermissionServiceUnavailable):
    """An answer that breaks the contract; its cause tells how."""

    def __init__(self, fault: str) -> None:
        super().__init__("the permission service does not answer in a form that can be understood")
        self.__cause__ = BrokenContract(fault)


class Answers:
    """Reads answers, and holds them against the contract. The methods raise MalformedAnswer."""

    def __init__(self) -> None:
        self._validator = Validator()

    def decision(self, raw: bytes) -> pb.CheckPermissionResponse:
        """The answer to CheckPermission."""
        answer = _parsed(pb.CheckPermissionResponse, raw)
        self._check(answer)
        return answer

    def decisions(self, raw: bytes, count: int) -> list[pb.CheckPermissionResponse | MalformedAnswer]:
        """The answer to BatchCheckPermissions of ``count`` questions; what is malformed is so for itself."""
        results = _parsed(pb.BatchCheckPermissionsResponse, raw).results
        if len(results) != count:
            raise MalformedAnswer(f"{len(results)} decisions on {count} questions")
        answers: list[pb.CheckPermissionResponse | MalformedAnswer] = []
        for result in results:
            try:
                self._check(result)
            except MalformedAnswer as error:
                answers.append(error)
            else:
                answers.append(result)
        return answers

    def token(self, raw: bytes) -> pb.IssueTrackTokenResponse:
        """The answer to IssueTrackToken. What the token grants is not looked at."""
        answer = _parsed(pb.IssueTrackTokenResponse, raw)
        self._check_common(answer)
        return answer

    def changes(self, raw: bytes) -> pb.WatchPermissionsResponse:
        """A message of WatchPermissions."""
        message = _parsed(pb.WatchPermissionsResponse, raw)
        _check_token(message.consistency_token)
        for change in message.changes:
            if not _PERMISSIONS.issuperset(change.permissions):
                raise MalformedAnswer("a change of unknown permissions")
        return message

    def _check(self, answer: pb.CheckPermissionResponse) -> None:
        self._check_common(answer)
        if answer.HasField("lifetime"):
            _check_lifetime(answer.lifetime)

    def _check_common(self, answer: pb.CheckPermissionResponse | pb.IssueTrackTokenResponse) -> None:
        if answer.decision not in _DECISIONS:
            raise MalformedAnswer(f"decision {answer.decision}")
        _check_token(answer.consistency_token)
        if answer.HasField("obligations"):
            faults = self._validator.collect_violations(answer.obligations)
            if faults:
                raise MalformedAnswer(f"obligations: {faults[0].proto.message}")


def _parsed(kind: type[M], raw: Any) -> M:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise MalformedAnswer(f"no {kind.DESCRIPTOR.name}: {error}") from None


def _check_lifetime(lifetime: Duration) -> None:
    if not (0 <= lifetime.seconds <= MAX_LIFETIME_S and 0 <= lifetime.nanos < 1_000_000_000):
        raise MalformedAnswer(f"a lifetime of {lifetime.seconds} s and {lifetime.nanos} ns")


def _check_token(token: str) -> None:
    if len(token.encode()) > MAX_TOKEN_BYTES:
        raise MalformedAnswer("a consistency token that is too long")
