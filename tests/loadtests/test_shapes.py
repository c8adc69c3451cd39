from itertools import pairwise

import pytest

from loadtests.shapes import SHAPES, arrivals, ramp, soak, spike, step


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_stays_within_the_peak(name):
    assert all(0 <= SHAPES[name](i / 1000) <= 1 for i in range(1001))


def test_a_soak_has_evenly_spaced_arrivals():
    due_s = list(arrivals(soak, peak=5, duration_s=4))
    assert len(due_s) == 20
    assert due_s == pytest.approx([0.2 * (i + 1) for i in range(20)])


def test_a_ramp_sends_half_of_what_its_peak_would_and_ever_faster():
    due_s = list(arrivals(ramp, peak=100, duration_s=10))
    assert len(due_s) == pytest.approx(500, abs=2)
    gaps = [later - earlier for earlier, later in pairwise(due_s)]
    assert gaps[400] < gaps[100] < gaps[10]
    assert gaps[-1] == pytest.approx(0.01, rel=0.05)


def test_steps_go_up_evenly_and_end_at_the_peak():
    levels = list(dict.fromkeys(step(i / 1000) for i in range(1001)))
    assert levels == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])


def test_a_spike_comes_suddenly_and_goes():
    due_s = list(arrivals(spike, peak=100, duration_s=10))
    before, during, after = (sum(low <= at < low + 2 for at in due_s) for low in (1, 4, 7))
    assert (before, during, after) == pytest.approx((40, 200, 40), abs=2)


def test_arrivals_wait_for_nobody():
    """The times are known before the first request is sent, so no slow answer can shift them."""
    assert list(arrivals(spike, 30, 3)) == list(arrivals(spike, 30, 3))
