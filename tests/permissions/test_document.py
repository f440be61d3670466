"""docs/permissions.md names everything that there is, and its rules are rules."""

import re
from pathlib import Path

import pytest

from track.v1.access_pb2 import Permission
from track_server.__main__ import main
from track_server.config import PermissionServiceSettings
from track_server.permissions.rules import PERMISSIONS
from track_server.permissions.rules_file import KEYS, parse

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "permissions.md").read_text()


def test_every_setting_is_in_it() -> None:
    for name in PermissionServiceSettings.model_fields:
        assert f"`{PermissionServiceSettings.variable(name)}`" in TEXT


def test_every_key_and_every_permission_is_in_it() -> None:
    names = {Permission.Name(permission).removeprefix("PERMISSION_") for permission in PERMISSIONS}
    for name in (*KEYS, *names):
        assert f"`{name}`" in TEXT


def test_its_rules_can_be_taken() -> None:
    (rules,) = re.findall(r"^```toml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert len(parse(rules.encode()).rules) == 2


def test_help_names_every_variable_but_the_token(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["permissions", "--help"])
    text = capsys.readouterr().out
    for name in PermissionServiceSettings.model_fields:
        variable = PermissionServiceSettings.variable(name)
        assert (f"{variable}." in text) is (name != "permission_token")
