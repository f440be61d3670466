"""`track-server replay`: what a recording says, and what is wrong with one that is none."""

import json
from pathlib import Path

import pytest

from tests.quality.core.simulation import Link, Sound, up
from track_server.__main__ import main
from track_server.quality.core.measuring.meter import Expected
from track_server.quality.core.measuring.reading import Media, Source
from track_server.quality.core.recording import begin_line, clock_line, expect_line, readings_line, tick_line
from track_server.quality.core.watch import Subject


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Of a sound that stalls for 10 s after 20 s, and goes on for 20 s."""
    flow, link = up(), Link(seed=1)
    sound = Sound(flow, link, Source.PUBLISHER_STATS)
    lines = [
        clock_line(100.0, 1_790_000_000.0),
        tick_line(100.0),
        begin_line(100.0, flow, Subject("TR_a", "alice", Media.AUDIO)),
        expect_line(100.0, flow, Expected()),
    ]
    for second in range(101, 151):
        link.down = 120 <= second < 130
        reading = sound.second(float(second), packets=0 if link.down else 50)
        lines += [readings_line(float(second), flow, [reading]), tick_line(float(second))]
    file = tmp_path / "recording"
    file.write_text("\n".join(lines) + "\n")
    return file


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines of a replay that succeeds."""
    assert main(["replay", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_replay_tells_alerts_and_levels_and_the_same_ones_again(
    capsys: pytest.CaptureFixture[str], recording: Path
) -> None:
    lines = told(capsys, str(recording))
    assert lines == told(capsys, str(recording))
    stalls = [line.split() for line in lines if "kind=STALLED" in line]
    assert [words[2] for words in stalls] == ["quality_alert_started", "quality_alert_ended"]
    begun, ended = (float(words[0]) for words in stalls)
    assert 22 < begun < 27
    assert 30 < ended < 40
    assert "participant_identity=alice" in stalls[0]
    assert any("quality_level_changed" in line and "level=LOST" in line for line in lines)
    assert not any("quality_action" in line for line in lines)


def test_a_replay_with_a_policy_tells_what_would_have_been_done(
    capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path
) -> None:
    allowed = [json.loads(line) for line in told(capsys, str(recording), "--allow", "restart", "--json")]
    (action,) = [each["event"]["quality_action_taken"] for each in allowed if "quality_action_taken" in each["event"]]
    assert (action["kind"], action["track_sid"]) == ("QUALITY_ACTION_KIND_RESTART", "TR_a")
    assert action["time"].startswith("2026-")
    (alert,) = [
        each["event"]["quality_alert_started"]
        for each in allowed
        if each["event"].get("quality_alert_started", {}).get("kind") == "QUALITY_ALERT_KIND_STALLED"
    ]
    assert alert["evidence"]["unit"] == "s"
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"policy": {"allowedActions": ["QUALITY_ACTION_KIND_RESTART"], "heldBackShare": 0.5}}))
    by_policy = [
        line for line in told(capsys, str(recording), "--policy", str(policy)) if "quality_action_taken" in line
    ]
    assert len(by_policy) == 1
    assert "kind=RESTART" in by_policy[0]


def test_a_recording_without_a_clock_gives_no_times(
    capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.write_text("\n".join(recording.read_text().splitlines()[1:]))
    for line in told(capsys, str(bare), "--json", "--allow", "restart"):
        assert not [key for key, _ in _texts(json.loads(line)) if key.endswith("time")]


def test_a_line_that_is_none_is_told_by_its_number(
    capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    lines = recording.read_text().splitlines()
    damaged.write_text("\n".join([*lines[:9], lines[9][:20], *lines[10:]]))
    assert main(["replay", str(damaged)]) == 2
    assert capsys.readouterr().err == f"{damaged}: line 10: it is no JSON.\n"
    damaged.write_bytes(b"\xff\xfe\x00")
    assert main(["replay", str(damaged)]) == 2
    assert "it is no UTF-8 text" in capsys.readouterr().err
    damaged.write_text("[" * 100_000)
    assert main(["replay", str(damaged)]) == 2
    assert capsys.readouterr().err == f"{damaged}: line 1: it is no JSON.\n"


def test_a_line_without_an_end_is_not_read_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    endless.write_text("\n" + "x" * 2_000_000)
    assert main(["replay", str(endless)]) == 2
    assert capsys.readouterr().err == f"{endless}: line 2: it has more than 1048576 characters.\n"


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("5", "it is no object"),
        ("null", "it is no object"),
        ('{"policy": []}', "it is no object"),
        ("[" * 100_000, "it is no JSON"),
        ('{"held_back_share": 2}', "held_back_share: must be"),
    ],
)
def test_a_policy_that_is_none_is_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path, policy: str, reason: str
) -> None:
    file = tmp_path / "policy.json"
    file.write_text(policy)
    assert main(["replay", "--policy", str(file), str(recording)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"--policy {file}")
    assert reason in told
    assert told.count("\n") == 1


def test_an_empty_recording_says_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    assert main(["replay", str(empty)]) == 0
    assert capsys.readouterr() == ("", f"{empty}: nothing happened\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing"], "missing cannot be read: No such file or directory."),
        (["--allow", "pray", "FILE"], "--allow pray is none of limit_network, limit_cpu, cap_publisher, video_off,"),
        (["--policy", "missing", "FILE"], "--policy missing cannot be read: No such file or directory."),
        (["--policy", "FILE", "FILE"], "is no QualityPolicy as JSON: "),
        (["--policy", "POLICY", "--allow", "restart", "FILE"], "--policy says what is allowed: leave --allow out."),
        (["--policy", "POLICY", "FILE"], "`floor` is above `targets.quality`"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"floor": "VIDEO_QUALITY_HIGH", "targets": {"quality": "VIDEO_QUALITY_LOW"}}))
    named = {"FILE": str(recording), "POLICY": str(policy)}
    assert main(["replay", *(named.get(argument, argument) for argument in arguments)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_recording_is_never_written_over(capsys: pytest.CaptureFixture[str], recording: Path) -> None:
    before = recording.read_text()
    assert main(["record", "--room", "room", "--output", str(recording), "--address", "127.0.0.1:1"]) == 2
    assert capsys.readouterr().err == f"--output {recording} cannot be written: File exists.\n"
    assert recording.read_text() == before


def test_a_recording_that_never_began_leaves_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "new"
    assert main(["record", "--room", "room", "--output", str(file), "--address", "127.0.0.1:1"]) == 1
    assert "127.0.0.1:1: UNAVAILABLE" in capsys.readouterr().err
    assert not file.exists()


def _texts(value: object) -> list[tuple[str, str]]:
    """All texts in it, with the names of their fields."""
    if not isinstance(value, dict):
        return []
    own = [(key, text) for key, text in value.items() if isinstance(text, str)]
    return own + [found for inner in value.values() for found in _texts(inner)]
