"""Bad rules files: every fault is a sentence with the rule's name, and nothing of such a file is taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.permission_process import EXAMPLE
from track_server.permissions.rules_file import RulesError, parse

GOOD = '[[rule]]\nname = "good"\nwhen = "true"\n'


def faults(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(RulesError) as raised:
        parse(text if isinstance(text, bytes) else text.encode())
    return raised.value.sentences


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"\xff", "the file is no UTF-8 text at byte 0"),
        ("[[rule", "the file is no TOML: "),
        ("", "the file has no [[rule]]"),
        ('rules = "x"\n' + GOOD, "there is no key 'rules' here"),
        ('[rule]\nname = "a"\n', "rules are written as [[rule]], with two brackets"),
        ("rule = 1", "rules are written as [[rule]], with two brackets"),
    ],
)
def test_a_file_that_is_no_list_of_rules_is_refused(text: str | bytes, fault: str) -> None:
    assert any(sentence.startswith(fault) for sentence in faults(text))


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ('prio = 1\nwhen = "true"', "there is no key 'prio'; there are name, permissions, when, "),
        ('effect = "deny"', 'when is missing; for a rule that always matches write "true"'),
        ('when = "  "', "when is missing"),
        ("when = true", "when must be text in quotes, and is True"),
        ('when = "check.rom == 1"', "the condition does not compile: line 1, column 6: undefined field 'rom'"),
        ("when = '''check.room == \"a\"\n&& chek'''", "the condition does not compile: line 2, column 4: "),
        ('when = "check.room"', "the condition must be a bool, but is STRING"),
        (
            'when = "track.muted"',
            "the condition does not compile: line 1, column 6: undeclared reference to 'track.muted'",
        ),
        ('when = "true"\npermissions = ["PUBLSH"]', "permissions: there is no 'PUBLSH'; there are READ_SERVER, "),
        ('when = "true"\npermissions = ["PERMISSION_PUBLISH"]', "permissions: there is no 'PERMISSION_PUBLISH'"),
        ('when = "true"\npermissions = ["UNSPECIFIED"]', "permissions: there is no 'UNSPECIFIED'"),
        ('when = "true"\npermissions = []', "permissions is empty"),
        ('when = "true"\npermissions = "MUTE"', "permissions must be a list of names such as ['READ_SERVER'], "),
        ('when = "true"\npermissions = ["MUTE", "MUTE"]', "permissions: 'MUTE' is there more than once"),
        ('when = "true"\neffect = "forbid"', "effect must be 'allow' or 'deny', and is 'forbid'"),
        ('when = "true"\nlifetime = "30"', "lifetime must be a span up to 24h such as '30s'"),
        ('when = "true"\nlifetime = 30', "lifetime must be a span up to 24h"),
        ('when = "true"\nlifetime = "25h"', "lifetime must be a span up to 24h"),
        ('when = "true"\nmax_width = 0', "max_width must be a whole number from 1 to 2147483647, and is 0"),
        ('when = "true"\nmax_tracks = true', "max_tracks must be a whole number"),
        ('when = "true"\nmax_bitrate_bps = 3_000_000_000', "max_bitrate_bps must be a whole number"),
        ('when = "true"\nmax_frames_per_second = nan', "max_frames_per_second must be a number above 0"),
        ('when = "true"\nmax_frames_per_second = inf', "max_frames_per_second must be a number above 0"),
        ('when = "true"\nsources = ["CAM"]', "sources: there is no 'CAM'; there are CAMERA, MICROPHONE, "),
        ('when = "true"\ncodecs = ["VP7"]', "codecs: there is no 'VP7'; there are "),
        ('when = "true"\neffect = "deny"\nmax_width = 1', "a rule that denies has no obligations: leave out max_width"),
        ('when = "true"\npermissions = ["MUTE"]\nmax_tracks = 1', "max_tracks would have no effect"),
        (f'when = "true"\nreason = "{"x" * 501}"', "reason is longer than 500 characters"),
    ],
)
def test_what_is_wrong_with_a_rule_is_a_sentence_with_its_name(keys: str, fault: str) -> None:
    found = faults(f'[[rule]]\nname = "the rule"\n{keys}\n')
    assert any(sentence.startswith(f"rule 'the rule': {fault}") for sentence in found), found


def test_a_rule_without_a_name_is_known_by_its_number() -> None:
    assert faults(GOOD.replace("true", "false") + '[[rule]]\nwhen = "true"\n') == ("rule number 2: name is missing",)


def test_all_faults_are_told_at_once() -> None:
    text = '[[rule]]\nname = "a"\nwhen = "nope"\neffect = "no"\n[[rule]]\nname = "b"\nlifetime = "x"\nwhen = "true"\n'
    found = faults(text)
    assert [sentence.partition(":")[0] for sentence in found] == ["rule 'a'", "rule 'a'", "rule 'b'"]


@pytest.mark.parametrize(
    ("first", "second", "contradicts"),
    [
        ('when = "true"', "when = \"check.room != ''\"", True),
        ('when = "true"\npermissions = ["MUTE", "PUBLISH"]', 'when = "false"\npermissions = ["MUTE"]', True),
        ('when = "true"\npermissions = ["MUTE"]', 'when = "true"\npermissions = ["MUTE", "PUBLISH"]', False),
        ("when = \"check.room == 'a'\"", "when = \"check.room == 'a'\"", True),
        ('when = "check.room == \'a\'"\neffect = "deny"', "when = \"check.room == 'a'\"", True),
        # Where the condition fails, the second decides.
        ("when = \"check.room == 'a'\"", 'when = "check.room == \'a\'"\neffect = "deny"', False),
        ("when = \"check.room == 'a'\"", "when = \"check.room == 'b'\"", False),
    ],
)
def test_a_rule_that_never_decides_is_refused(first: str, second: str, contradicts: bool) -> None:
    text = f'[[rule]]\nname = "one"\n{first}\n[[rule]]\nname = "two"\n{second}\n'
    if not contradicts:
        assert len(parse(text.encode()).rules) == 2
        return
    assert faults(text) == ("rule 'two': it never decides, because rule 'one' before it always does",)


def test_two_rules_of_one_name_are_refused() -> None:
    text = GOOD.replace("true", "check.room == 'a'") + GOOD
    assert faults(text) == ("rule 'good': another rule has the same name",)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_the_file_holds_there_are_rules_or_sentences(raw: bytes) -> None:
    try:
        taken = len(parse(raw).rules)
    except RulesError as error:
        taken = len(error.sentences)
    assert taken > 0


def test_the_example_is_good() -> None:
    assert len(parse(EXAMPLE.read_bytes()).rules) == 12
