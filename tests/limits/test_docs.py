"""Every limit is in the README and in docs/limits.md, with its real default."""

from pathlib import Path

import pytest

from track_server.config.limits import LimitSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", LimitSettings.model_fields)
def test_every_limit_is_documented(name: str) -> None:
    field = LimitSettings.model_fields[name]
    row = f"| `TRACK_{name.upper()}` | `{field.default}` | {field.description} |"
    assert row in (ROOT / "README.md").read_text()
    assert f"| `{name}` |" in (ROOT / "docs" / "limits.md").read_text()
