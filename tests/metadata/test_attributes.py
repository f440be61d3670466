"""What is written into attributes, and how much there is then."""

from track_server.metadata.attributes import changes, name_of, total_bytes, written


def test_only_what_differs_is_written_and_what_is_gone_is_emptied() -> None:
    attributes = {"app": "x", name_of("TR_a"): "{}", name_of("TR_b"): "{1}", name_of("TR_gone"): "{}"}
    desired = {"TR_a": "{}", "TR_b": "{2}", "TR_new": "{3}"}
    assert changes(desired, attributes) == {
        name_of("TR_b"): "{2}",
        name_of("TR_new"): "{3}",
        name_of("TR_gone"): "",
    }
    assert changes({}, {"app": "x", "track.operation": "{}"}) == {}
    assert (written(attributes, "TR_b"), written(attributes, "TR_x")) == ("{1}", "")


def test_the_application_s_own_attributes_count() -> None:
    attributes = {"app": "é", name_of("TR_old"): "x" * 100}
    assert total_bytes({"TR_a": "12345"}, attributes) == 3 + 2 + len(name_of("TR_a")) + 5
