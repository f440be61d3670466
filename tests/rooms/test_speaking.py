"""Who spoke last, as LiveKit tells it."""

import pytest

from track_server.rooms.speaking import PAUSE_S, Speaking

Levels = dict[str, float]


def spoken(*heard: tuple[float, Levels]) -> tuple[str, ...]:
    speaking = Speaking()
    for at, levels in heard:
        speaking.hear(levels.items(), at)
    return speaking.order


@pytest.mark.parametrize(
    ("heard", "order"),
    [
        pytest.param([], (), id="silence"),
        pytest.param([(0, {"ann": 0.0})], (), id="who is silent did not speak"),
        pytest.param([(0, {"ann": 0.5}), (5, {"bob": 0.2})], ("bob", "ann"), id="who began last is first"),
        pytest.param([(0, {"ann": 0.5, "bob": 0.7})], ("bob", "ann"), id="who is louder, of two that begin at once"),
        pytest.param([(0, {"ann": 0.5}), (5, {"bob": 0.2}), (6, {"bob": 0.0})], ("ann", "bob"), id="who still speaks"),
        pytest.param(
            [(0, {"ann": 0.5, "bob": 0.7}), (5, {"bob": 0.0}), (6, {"ann": 0.0})], ("ann", "bob"), id="who stopped last"
        ),
        pytest.param(
            [(0, {"ann": 0.5}), (5, {"bob": 0.2}), (6, {"ann": 0.0}), (6 + PAUSE_S / 2, {"ann": 0.5})],
            ("bob", "ann"),
            id="a break for breath begins nothing",
        ),
        pytest.param(
            [(0, {"ann": 0.5}), (5, {"bob": 0.2}), (6, {"ann": 0.0}), (6 + PAUSE_S, {"ann": 0.5})],
            ("ann", "bob"),
            id="after a pause it is a new beginning",
        ),
        pytest.param(
            [(0, {"ann": 0.5}), (5, {"bob": 0.2}), (6, {"ann": 0.9}), (7, {"ann": 0.1})],
            ("bob", "ann"),
            id="being louder changes nothing",
        ),
    ],
)
def test_the_order(heard: list[tuple[float, Levels]], order: tuple[str, ...]) -> None:
    assert spoken(*heard) == order


def test_a_change_of_the_order_is_told_and_nothing_else() -> None:
    speaking = Speaking()
    assert speaking.hear([("ann", 0.5)], 0.0)
    assert not speaking.hear([("ann", 0.9)], 1.0)
    assert speaking.hear([("bob", 0.9)], 2.0)
    assert not speaking.hear([("ann", 0.0)], 3.0)
    assert not speaking.hear([("zoe", 0.0)], 3.0)
    assert not speaking.hush(4.0, "ann")
    assert speaking.hear([("ann", 0.5)], 9.0)


def test_who_left_or_is_heard_no_more_spoke_until_then() -> None:
    speaking = Speaking()
    speaking.hear([("ann", 0.5), ("bob", 0.4)], 0.0)
    assert speaking.hush(1.0, "ann")
    assert speaking.order == ("bob", "ann")
    speaking.hush(2.0)
    speaking.hear([("ann", 0.5)], 10.0)
    assert speaking.order == ("ann", "bob")


def test_what_is_kept_of_those_who_left_is_bounded() -> None:
    speaking = Speaking()
    for number in range(1000):
        speaking.hear([(f"guest-{number}", 0.5)], float(number))
        speaking.hush(number + 0.5)
    assert len(speaking.order) <= 100
    assert speaking.order[0] == "guest-999"
