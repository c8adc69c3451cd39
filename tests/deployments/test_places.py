"""Who gets a place when there are few."""

from deployments.places import WANTED_S, Places


def test_alone_a_caller_may_have_every_place():
    places = Places(3)
    for _ in range(3):
        assert places.has_room_for("a")
        places.take("a")
    assert places.is_full and not places.has_room_for("a")
    places.give_back("a")
    assert places.has_room_for("a")  # its own refusal keeps nothing from it


def test_half_of_the_places_are_kept_for_others_for_as_long_as_they_were_refused_lately():
    now_s = 0.0
    places = Places(4, clock=lambda: now_s)
    for _ in range(4):
        places.take("a")
    assert not places.has_room_for("b")
    places.give_back("a")
    assert not places.has_room_for("a") and places.has_room_for("b")
    now_s = WANTED_S
    assert places.has_room_for("a")


def test_whoever_has_less_than_half_is_let_in_while_there_is_room():
    places = Places(4)
    for caller in "aabc":
        places.take(caller)
    assert not places.has_room_for("c")
    places.give_back("a")
    assert places.has_room_for("a") and places.has_room_for("b")
