"""While a call is at work on a subscription nobody else asks for it."""

from track_server.subscription.controller.claims import Claims


def test_a_pair_is_claimed_until_the_last_call_about_it_is_over() -> None:
    claims = Claims()
    with claims.claimed("room", [("ann", "TR_1"), ("bob", "TR_1")]):
        with claims.claimed("room", [("ann", "TR_1")]):
            assert claims.holds("room", "ann", "TR_1")
        assert claims.holds("room", "ann", "TR_1")
        assert not claims.holds("room", "ann", "TR_2")
        assert not claims.holds("other", "ann", "TR_1")
    assert not claims.holds("room", "ann", "TR_1")
    assert not claims.holds("room", "bob", "TR_1")
