"""The permission service as a program, asked over gRPC."""

import asyncio
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.chained_server import failure, until
from tests.conftest import StartPermissions
from tests.permission_process import PermissionClient, PermissionProcess
from tests.refusals import refusal
from track.permission.v1 import permission_service_pb2 as pb
from track.v1.access_pb2 import Grants, Permission, Principal, PrincipalKind, TrackOperation
from track.v1.token_pb2 import PublishBounds

RULES = """
[[rule]]
name = "bounded"
permissions = ["PUBLISH", "CREATE_TOKEN"]
when = 'check.room == "demo"'
lifetime = "30s"
max_width = 1280

[[rule]]
name = "closed"
permissions = ["MUTE"]
when = "true"
effect = "deny"
reason = "nobody mutes"
"""
MORE = '\n[[rule]]\nname = "more"\npermissions = ["SUBSCRIBE"]\nwhen = "true"\n'
ALICE = Principal(
    kind=PrincipalKind.PRINCIPAL_KIND_PARTICIPANT, identity="alice", grants=Grants(room="demo", room_join=True)
)


def question(permission: str, room: str = "demo", token: str = "") -> pb.CheckPermissionRequest:
    return pb.CheckPermissionRequest(
        principal=ALICE,
        permission=Permission.Value(f"PERMISSION_{permission}"),
        room=room,
        consistency_token=token,
    )


@pytest_asyncio.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PermissionProcess]:
    """A permission service for all that only ask it."""
    async with PermissionProcess(tmp_path_factory.mktemp("permissions"), RULES) as service:
        yield service


@pytest_asyncio.fixture
async def client(shared: PermissionProcess) -> AsyncIterator[PermissionClient]:
    async with shared.client() as client:
        yield client


@pytest_asyncio.fixture
async def service(start_permissions: StartPermissions) -> PermissionProcess:
    """A permission service of the test's own, whose rules and life are in its hand."""
    return await start_permissions(RULES)


@pytest_asyncio.fixture
async def own(service: PermissionProcess) -> AsyncIterator[PermissionClient]:
    """A caller of that."""
    async with service.client() as client:
        yield client


async def test_a_question_is_answered_by_the_rules(client: PermissionClient) -> None:
    allowed = await client.CheckPermission(question("PUBLISH"))
    assert allowed.decision == pb.DECISION_ALLOWED
    assert allowed.lifetime.ToTimedelta().total_seconds() == 30
    assert allowed.obligations == PublishBounds(max_width=1280)
    assert allowed.consistency_token
    denied = await client.CheckPermission(question("MUTE"))
    assert (denied.decision, denied.reason) == (pb.DECISION_DENIED, "nobody mutes")
    assert not denied.HasField("obligations")
    unspoken = await client.CheckPermission(question("READ_TRACKS"))
    assert (unspoken.decision, unspoken.reason) == (pb.DECISION_DENIED, "no rule allows this")


async def test_a_batch_is_answered_in_its_order(client: PermissionClient) -> None:
    checks = [question("PUBLISH"), question("MUTE"), question("PUBLISH", "other")] * 100
    answer = await client.BatchCheckPermissions(pb.BatchCheckPermissionsRequest(checks=checks))
    assert [result.decision for result in answer.results] == [1, 2, 2] * 100
    assert {result.consistency_token for result in answer.results} == {answer.results[0].consistency_token}


async def test_a_token_is_decided_as_an_operation_and_left_to_track_service(client: PermissionClient) -> None:
    request = pb.IssueTrackTokenRequest(
        principal=ALICE, room="demo", participant_identity="alice", operation=TrackOperation.TRACK_OPERATION_PUBLISH
    )
    issued = await client.IssueTrackToken(request)
    assert (issued.decision, issued.token) == (pb.DECISION_ALLOWED, "")
    assert issued.obligations == PublishBounds(max_width=1280)
    request.room = "other"
    refused = await client.IssueTrackToken(request)
    assert (refused.decision, refused.reason) == (pb.DECISION_DENIED, "no rule allows this")
    assert not refused.HasField("obligations")


async def test_an_issue_is_logged_and_counted(start_permissions: StartPermissions) -> None:
    service = await start_permissions(RULES, {"TRACK_PERMISSION_METRICS_LISTEN": "127.0.0.1:0"})
    report = pb.ReportPermissionIssueRequest(
        check=question("PUBLISH"), issue=pb.PERMISSION_ISSUE_ALLOWED_BUT_REFUSED, detail="no place", request_id="r-1"
    )
    async with service.client() as client:
        await client.ReportPermissionIssue(report)
        await client.CheckPermission(question("MUTE"))
    (line,) = service.logged("permission_issue")
    assert line["level"] == "warning"
    assert (line["issue"], line["principal"], line["room"], line["detail"], line["request_id"]) == (
        "PERMISSION_ISSUE_ALLOWED_BUT_REFUSED",
        "alice",
        "demo",
        "no place",
        "r-1",
    )
    metrics = await asyncio.to_thread(_read, f"http://{service.metrics_address}/metrics")
    assert 'track_permission_issues_total{issue="allowed_but_refused",permission="publish"} 1.0' in metrics
    assert 'track_permission_decisions_total{decision="denied",permission="mute"} 1.0' in metrics
    assert 'grpc_method="CheckPermission"' in metrics


async def test_the_watch_stream_begins_at_once_and_tells_of_what_a_reload_touches(
    service: PermissionProcess, own: PermissionClient
) -> None:
    messages = aiter(own.WatchPermissions(pb.WatchPermissionsRequest(), timeout=45))
    first = await anext(messages)
    assert (list(first.changes), bool(first.consistency_token)) == ([], True)
    service.write_rules(RULES + MORE)
    second = await anext(messages)
    assert list(second.changes) == [pb.PermissionChange(permissions=[Permission.PERMISSION_SUBSCRIBE])]
    assert second.consistency_token != first.consistency_token
    # What the token names is in force.
    answer = await own.CheckPermission(question("SUBSCRIBE", token=second.consistency_token))
    assert (answer.decision, answer.consistency_token) == (pb.DECISION_ALLOWED, second.consistency_token)
    everybody = '[[rule]]\nname = "everybody"\nwhen = "true"\nlifetime = "1s"\n'
    service.write_rules(everybody)
    third = await anext(messages)
    assert list(third.changes) == [pb.PermissionChange()]
    service.write_rules("# decides as before\n" + everybody)
    fourth = await anext(messages)
    assert list(fourth.changes) == []


async def test_bad_rules_change_nothing_and_are_logged_once(service: PermissionProcess, own: PermissionClient) -> None:
    before = await own.CheckPermission(question("PUBLISH"))
    service.write_rules(RULES + '[[rule]]\nname = "broken"\nwhen = "check.rom == 1"\n')
    await until(lambda: service.logged("file_refused"))
    (line,) = service.logged("file_refused")
    assert "rule 'broken': the condition does not compile: line 1, column 6" in line["problem"]
    service.rules_path.unlink()
    await until(lambda: len(service.logged("file_refused")) == 2)
    after = await own.CheckPermission(question("PUBLISH"))
    assert after == before
    told = await service.rewrite(RULES + MORE)
    assert told is not None
    assert (await own.CheckPermission(question("SUBSCRIBE"))).decision == pb.DECISION_ALLOWED
    assert len(service.logged("file_refused")) == 2


@pytest.mark.parametrize(
    ("token", "code", "reason"),
    [
        ("nonsense", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CONSISTENCY_TOKEN"),
        ("rules-0123456789ab-0", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CONSISTENCY_TOKEN"),
        ("rules-0123456789ab-1\n", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CONSISTENCY_TOKEN"),
        ("{token}000", grpc.StatusCode.UNAVAILABLE, "CONSISTENCY_NOT_REACHED"),
    ],
)
async def test_a_consistency_token_that_cannot_be_reached_is_refused(
    client: PermissionClient, token: str, code: grpc.StatusCode, reason: str
) -> None:
    current = (await client.CheckPermission(question("PUBLISH"))).consistency_token
    asked = question("PUBLISH", token=token.format(token=current))
    error = await refusal(client.CheckPermission(asked))
    assert (error.code, error.reason) == (code, reason)
    batch = pb.BatchCheckPermissionsRequest(checks=[question("PUBLISH"), asked])
    error = await refusal(client.BatchCheckPermissions(batch))
    assert error.code == code


async def test_a_token_of_an_earlier_life_is_reached_by_what_is_in_the_file_now(service: PermissionProcess) -> None:
    async with service.client() as client:
        before = (await client.CheckPermission(question("SUBSCRIBE"))).consistency_token
    await service.kill()
    await service.start()
    async with service.client() as client:
        service.write_rules(RULES + MORE)
        answer = await client.CheckPermission(question("SUBSCRIBE", token=before))
        assert answer.decision == pb.DECISION_ALLOWED
        assert answer.consistency_token.split("-")[1] != before.split("-")[1]


async def test_only_the_token_opens_it(shared: PermissionProcess) -> None:
    for wrong in ("", "another", f"{shared.token}x", shared.token[:-1]):
        async with shared.client(wrong) as client:
            error = await refusal(client.CheckPermission(question("PUBLISH")))
            assert error.code == grpc.StatusCode.UNAUTHENTICATED
            error = await refusal(anext(aiter(client.WatchPermissions(pb.WatchPermissionsRequest()))))
            assert error.code == grpc.StatusCode.UNAUTHENTICATED


async def test_without_a_token_it_answers_everybody_on_loopback(start_permissions: StartPermissions) -> None:
    service = await start_permissions(RULES, {"TRACK_PERMISSION_TOKEN": ""})
    async with service.client("") as client:
        assert (await client.CheckPermission(question("PUBLISH"))).decision == pb.DECISION_ALLOWED


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.CheckPermissionRequest(permission=Permission.PERMISSION_MUTE), "principal"),
        (pb.CheckPermissionRequest(principal=ALICE), "permission"),
        (pb.CheckPermissionRequest(principal=ALICE, permission=Permission.ValueType(999)), "permission"),
        (pb.BatchCheckPermissionsRequest(), "checks"),
        (pb.BatchCheckPermissionsRequest(checks=[question("MUTE")] * 501), "checks"),
        (pb.BatchCheckPermissionsRequest(checks=[pb.CheckPermissionRequest(principal=ALICE)]), "checks[0].permission"),
        (pb.IssueTrackTokenRequest(room="demo"), "principal"),
        (pb.ReportPermissionIssueRequest(detail="x"), "check"),
    ],
)
async def test_a_malformed_request_is_refused_with_its_field(
    client: PermissionClient, request_: object, field: str
) -> None:
    rpcs: dict[type, Callable[[Any], Awaitable[Any]]] = {
        pb.CheckPermissionRequest: client.CheckPermission,
        pb.BatchCheckPermissionsRequest: client.BatchCheckPermissions,
        pb.IssueTrackTokenRequest: client.IssueTrackToken,
        pb.ReportPermissionIssueRequest: client.ReportPermissionIssue,
    }
    error = await refusal(rpcs[type(request_)](request_))
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0] == field


async def test_bytes_that_are_no_request_are_refused(shared: PermissionProcess) -> None:
    async with grpc.aio.insecure_channel(shared.address) as channel:
        call: Any = channel.unary_unary("/track.permission.v1.PermissionService/CheckPermission")
        error = await refusal(call(b"\xff\xff", metadata=(("authorization", f"bearer {shared.token}"),)))
        assert error.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_grpcurl_finds_its_way_by_reflection(shared: PermissionProcess, grpcurl: Path) -> None:
    health = await _run(grpcurl, "-plaintext", shared.address, "grpc.health.v1.Health/List")
    assert '"track.permission.v1.PermissionService": {' in health
    assert '"status": "SERVING"' in health
    answer = await _run(
        grpcurl,
        *("-plaintext", "-H", f"authorization: Bearer {shared.token}"),
        *("-d", '{"principal": {"identity": "alice"}, "permission": "PERMISSION_PUBLISH", "room": "demo"}'),
        *(shared.address, "track.permission.v1.PermissionService/CheckPermission"),
    )
    assert '"decision": "DECISION_ALLOWED"' in answer
    assert '"max_width": 1280' in answer


async def test_a_watcher_is_told_that_the_service_goes_and_sigterm_ends_it(service: PermissionProcess) -> None:
    async with service.client() as client:
        messages = aiter(client.WatchPermissions(pb.WatchPermissionsRequest()))
        await anext(messages)
        assert await service.stop() == 0
        error = await refusal(anext(messages))
        assert error.code == grpc.StatusCode.UNAVAILABLE


async def test_a_paused_service_answers_when_it_goes_on(service: PermissionProcess, own: PermissionClient) -> None:
    await own.CheckPermission(question("PUBLISH"))
    service.pause()
    error = await failure(own.CheckPermission(question("PUBLISH"), timeout=0.3))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    service.resume()
    assert (await own.CheckPermission(question("PUBLISH"))).decision == pb.DECISION_ALLOWED


@pytest.mark.parametrize(
    ("rules", "settings", "sentence"),
    [
        ('[[rule]]\nname = "a"\nwhen = "nope"\n', {}, "rule 'a': the condition does not compile: line 1, column 1"),
        (None, {}, "TRACK_PERMISSION_RULES: {path} cannot be read: No such file or directory"),
        (RULES, {"TRACK_PERMISSION_LISTEN": "0.0.0.0:0"}, "where anybody could ask"),
        (RULES, {"TRACK_PERMISSION_LISTEN": "nowhere"}, "TRACK_PERMISSION_LISTEN must be host:port"),
        (RULES, {"TRACK_PERMISSION_RULES": ""}, "TRACK_PERMISSION_RULES is not set"),
        (RULES, {"TRACK_PERMISSION_TOKEN": " x"}, "TRACK_PERMISSION_TOKEN must be printable ASCII"),
        (RULES, {"TRACK_PERMISSION_SERVER_TLS_CERT": "c.pem"}, "go together"),
        (RULES, {"TRACK_PERMISSION_SERVER_TLS_CLIENT_CA": "c.pem"}, "needs TRACK_PERMISSION_SERVER_TLS_CERT"),
    ],
)
def test_what_cannot_be_started_ends_with_a_sentence(
    tmp_path: Path, rules: str | None, settings: dict[str, str], sentence: str
) -> None:
    path = tmp_path / "rules.toml"
    if rules is not None:
        path.write_text(rules)
    done = subprocess.run(
        [sys.executable, "-m", "track_server", "permissions", "--log-level", "error"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "TRACK_PERMISSION_RULES": str(path), "TRACK_PERMISSION_LISTEN": "127.0.0.1:0", **settings},
    )
    assert done.returncode == 2, done.stderr
    assert sentence.format(path=path) in done.stderr
    assert "Traceback" not in done.stderr


def _read(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        text: str = answer.read().decode()
        return text


async def _run(program: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()
