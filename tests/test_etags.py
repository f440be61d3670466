"""What is said where an etag names another state than the one there is."""

import pytest

from track_server.errors import EtagMismatch
from track_server.etags import ABSENT, compare, new_etag


@pytest.mark.parametrize("given", ["", "a"])
def test_the_state_there_is_may_be_changed(given: str) -> None:
    compare("a", given, "policy")


@pytest.mark.parametrize(
    ("current", "given", "absent", "said"),
    [
        ("a", "b", ABSENT, "the policy was changed since"),
        (ABSENT, "b", ABSENT, "the policy was changed since"),
        ("a", ABSENT, ABSENT, "the policy is there already"),
        ("a", "0", "0", "the policy is there already"),
        ("0", ABSENT, "0", "the policy was changed since"),
    ],
)
def test_another_state_is_named_with_the_one_there_is(current: str, given: str, absent: str, said: str) -> None:
    with pytest.raises(EtagMismatch) as caught:
        compare(current, given, "policy", absent=absent)
    assert str(caught.value) == said
    assert (caught.value.field, caught.value.metadata) == ("etag", {"etag": current})


def test_no_state_has_the_etag_of_another() -> None:
    assert len({new_etag() for _ in range(1000)}) == 1000
