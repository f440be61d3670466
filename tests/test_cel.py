"""Filters: typed, with positions, and never true by accident."""

import pytest

from track.permission.v1 import permission_service_pb2
from track.v1 import access_pb2, audit_pb2, publication_pb2, track_pb2
from track_server.cel import compile_condition, compile_filter, in_time
from track_server.errors import InvalidExpression

CAMERA = track_pb2.Track(
    sid="TR_1", type=track_pb2.TRACK_TYPE_VIDEO, source=track_pb2.TRACK_SOURCE_CAMERA, width=1280, name="cam"
)
CAMERA.metadata["role"] = "presenter"


@pytest.mark.parametrize(
    ("source", "matches"),
    [
        ("track.source == TrackSource.TRACK_SOURCE_CAMERA", True),
        ('track.source == TrackSource.TRACK_SOURCE_CAMERA && track.metadata.role == "presenter"', True),
        ('track.metadata.role == "viewer"', False),
        ("track.width > 640", True),
        ('track.name.startsWith("c") && !track.muted', True),
        ('track.metadata.missing == "x"', False),
        ("track.metadata.missing == 1 || track.width > 640", True),
        ('!(track.metadata.missing == "x")', False),
        ("track.type == 2", True),
    ],
)
def test_a_filter_matches_what_it_says_and_fails_to_false(source: str, matches: bool) -> None:
    predicate = compile_filter(source, "track")
    assert predicate is not None
    assert predicate(CAMERA) is matches


def test_the_empty_filter_is_none() -> None:
    assert compile_filter("  ", "track") is None


def test_publications_have_their_own_variable() -> None:
    predicate = compile_filter("publication.state == PublicationState.PUBLICATION_STATE_LIVE", "publication")
    assert predicate is not None
    assert predicate(publication_pb2.Publication(state=publication_pb2.PUBLICATION_STATE_LIVE))


def test_an_exhausted_budget_does_not_match() -> None:
    sixty = f"[{','.join(['1'] * 60)}]"
    predicate = compile_filter(f"{sixty}.all(a, {sixty}.all(b, {sixty}.all(c, true)))", "track")
    assert predicate is not None
    assert predicate(CAMERA) is False


SPEAKS = track_pb2.ParticipantPermission(can_publish=True)


def test_the_record_and_participants_have_variables_of_their_own() -> None:
    denials = compile_filter('entry.code == 7 && entry.principal.identity == "alice"', "entry")
    speakers = compile_filter(
        'participant.permission.can_publish && participant.attributes.role == "host"', "participant"
    )
    assert denials is not None
    assert speakers is not None
    entry = audit_pb2.AuditEntry(code=7)
    entry.principal.identity = "alice"
    assert denials(entry)
    assert not denials(audit_pb2.AuditEntry())
    host = track_pb2.Participant(attributes={"role": "host"}, permission=SPEAKS)
    assert speakers(host)
    assert not speakers(track_pb2.Participant(permission=SPEAKS))


QUESTION = {
    "check": permission_service_pb2.CheckPermissionRequest(permission=access_pb2.PERMISSION_PUBLISH, room="demo"),
    "issue": permission_service_pb2.IssueTrackTokenRequest(),
}


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("check.permission == Permission.PERMISSION_PUBLISH", True),
        ("check.principal.kind == PrincipalKind.PRINCIPAL_KIND_SERVICE", False),
        ('check.room == "demo" && !has(issue.principal)', True),
        ("issue.operation != TrackOperation.TRACK_OPERATION_PUBLISH", True),
        ('{"a": true}[check.room]', None),
        ("check.room.matches('a(')", None),
        ("dyn(1)", None),
        ('{"a": true}[check.room] || true', True),
    ],
)
def test_a_condition_over_several_variables_tells_no_from_failure(source: str, outcome: bool | None) -> None:
    assert compile_condition(source, ("check", "issue"), "when")(QUESTION) is outcome


def test_a_bad_expression_is_named_by_its_field() -> None:
    with pytest.raises(InvalidExpression, match=r"^the rule does not compile: line 1, column 12: ") as raised:
        compile_filter("participant.nme == 1", "participant", "subscribers.rule")
    assert raised.value.field == "subscribers.rule"
    with pytest.raises(InvalidExpression, match=r"^the when does not compile: "):
        compile_condition("", ("check",), "when")


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("track.sorce == 1", "1", "6"),
        ("track.sid ==", "1", "13"),
        ("track.sid == 1", "1", "11"),
        ("nope", "1", "1"),
        ("track.muted &&\n track.sid == 1", "2", "12"),
        ("1 + 1", "1", "1"),
        ("publication.state", "1", "12"),
    ],
)
def test_a_bad_filter_tells_where(source: str, line: str, column: str) -> None:
    with pytest.raises(InvalidExpression) as raised:
        compile_filter(source, "track")
    assert (raised.value.metadata["line"], raised.value.metadata["column"]) == (line, column)
    assert raised.value.field == "filter"


NUMBERS = "[" + ",".join(["1"] * 90) + "]"


@pytest.mark.parametrize(
    "source",
    [
        # 77 s, of which nothing else would be served.
        f"{NUMBERS}.map(x, {NUMBERS}.map(y, !track.name.matches('(x{{1,50}}){{1,20}}y'))).size() > 0",
        "track.name.matches('((x{1,31}){1,31}|z{500})y')",
        "track.name.matches('x{1,50}' + '{1,20}')",
        r"track.name.matches('x\x7b1,50\x7d')",
        "track.name.matches(track.participant_identity)",
        "matches(track.name, 'x')",
        "track.name.matches('" + "x" * 201 + "')",
        "track.name.matches(r'" + r"\pL" * 60 + "')",
        " || ".join(["track.name.matches('x')"] * 9),
        """'.matches("' + string(track.name.matches(track.sid)) + '")' == ''""",
        """".matches(" + string(track.name.matches(track.sid + ")")) == ''""",
    ],
)
def test_a_pattern_that_takes_long_is_refused_before_it_is_tried(source: str) -> None:
    with pytest.raises(InvalidExpression, match="may take too long"):
        compile_filter(source, "track")


@pytest.mark.parametrize(
    "source",
    [
        "track.name.matches('^cam-[0-9]{2,4}$')",
        r"""track.name.matches(r"^cam-\d+$") && track.layers.all(layer, layer.width > 0)""",
        "track . name . matches ( 'cam' )",
    ],
)
def test_a_pattern_that_does_not_take_long_is_taken(source: str) -> None:
    matches = compile_filter(source, "track")
    assert matches is not None
    assert matches(track_pb2.Track(name="cam-17"))
    assert not matches(track_pb2.Track(name="mic"))


LONG = "[" + ",".join(["track.name"] * 60) + "]"


def test_several_macros_are_for_short_expressions_only() -> None:
    with pytest.raises(InvalidExpression, match="may take too long"):
        compile_filter(f"{NUMBERS}.map(x, {NUMBERS}.map(y, {LONG}.size() > 0)).size() > 0", "track")
    assert compile_filter("track.layers.exists(a, track.layers.all(b, a.width >= b.width))", "track")


def test_a_comment_does_not_hide_a_macro() -> None:
    hidden = "all // (\n // \n ("
    with pytest.raises(InvalidExpression, match="may take too long"):
        compile_filter(f"{NUMBERS}.{hidden}x, {NUMBERS}.{hidden}y, {LONG}.size() > 0))", "track")


def test_a_macro_in_a_filter_goes_through_so_much_and_no_more() -> None:
    """Else one metadata of 16 kB takes seconds, in which nothing else is served."""
    squared = compile_filter("track.metadata.tags.all(tag, track.metadata.tags == track.metadata.tags)", "track")
    plain = compile_filter("track.metadata.tags.size() == 2000", "track")
    assert squared is not None
    assert plain is not None
    track = track_pb2.Track()
    for count, within in ((100, True), (2000, False)):
        track.metadata["tags"] = [None] * count
        assert squared(track) is within
    assert plain(track)


def test_a_call_whose_filter_takes_long_ends_there() -> None:
    dear = compile_filter(f"[{','.join(['1'] * 300)}].map(x, {LONG}.size()).size() > 0", "track")
    timed = in_time(dear)

    def use_up() -> None:
        for _ in range(100_000):
            timed(track_pb2.Track(name="x"))

    with pytest.raises(InvalidExpression, match="takes too long"):
        use_up()
    # The next call begins anew.
    assert in_time(dear)(track_pb2.Track(name="x"))


@pytest.mark.parametrize(
    ("source", "suggestion"),
    [
        ("track.sourc == TrackSource.TRACK_SOURCE_CAMERA", "source"),
        ('track.participantIdentity == "x"', "participant_identity"),
        ("track.layers.exists(layer, layer.widht > 1)", "width"),
        ("has(track.mutd)", "muted"),
        ('tracks.name == "x"', "track.name"),
        ('track.name.startWith("x")', "startsWith"),
        ("track.source == TrackSource.CAMERA", "TrackSource.TRACK_SOURCE_CAMERA"),
        ("track.source ==\n  TrackSource.TRACK_SOURCE_MICROFONE", "TrackSource.TRACK_SOURCE_MICROPHONE"),
        ("track.source == CAMERA", "TrackSource.TRACK_SOURCE_CAMERA"),
        ("track.source == TRACK_SOURCE_CAMERA", "TrackSource.TRACK_SOURCE_CAMERA"),
        ("track.type == TrackTypes.TRACK_TYPE_AUDIO", "TrackType.TRACK_TYPE_AUDIO"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(source: str, suggestion: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        compile_filter(source, "track")
    assert caught.value.metadata["suggestion"] == suggestion
    assert caught.value.message.endswith(f"; did you mean `{suggestion}`?")
    assert caught.value.metadata["line"] == str(source.count("\n") + 1)


@pytest.mark.parametrize("source", ["track.zebra == 1", "track.name == 1", "zebra", "true &&", "track.name + 1"])
def test_nothing_is_suggested_where_nothing_is_near(source: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        compile_filter(source, "track")
    assert "suggestion" not in caught.value.metadata
