from mmrag.circuit_breaker import CircuitBreaker


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def broken() -> tuple[CircuitBreaker, Clock]:
    clock = Clock()
    breaker = CircuitBreaker(max_failures=3, pause_s=1.0, now_s=clock)
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    return breaker, clock


def test_it_opens_after_failures_in_a_row_only():
    breaker = CircuitBreaker(max_failures=2)
    for _ in range(5):
        breaker.failed()
        breaker.succeeded()
    assert breaker.allows() and not breaker.is_open
    breaker.failed()
    breaker.failed()
    assert breaker.is_open and not breaker.allows()


def test_after_the_pause_one_caller_may_try():
    breaker, clock = broken()
    clock.now_s += 0.9
    assert not breaker.allows()
    clock.now_s += 0.2
    assert [breaker.allows() for _ in range(3)] == [True, False, False]


def test_a_trial_that_works_closes_the_circuit():
    breaker, clock = broken()
    clock.now_s += 1.1
    assert breaker.allows()
    breaker.succeeded()
    assert not breaker.is_open and all(breaker.allows() for _ in range(3))


def test_a_trial_that_fails_or_is_never_reported_costs_another_pause():
    breaker, clock = broken()
    clock.now_s += 1.1
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    clock.now_s += 1.1
    assert breaker.allows()
    clock.now_s += 1.1
    assert breaker.allows()
