"""What a replica logs: its own failures, not the mistakes of callers."""

import logging

import pytest

from deployments.replica_logs import OwnFailures
from mmrag.errors import InvalidImage, MmragError, NotFound, Overloaded, Unavailable


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [
        (NotFound("no such document"), False),
        (InvalidImage("no picture"), False),
        (Overloaded("the queue is full"), False),
        (Unavailable("the store is away"), True),
        (ZeroDivisionError(), True),
    ],
)
def test_a_request_that_its_caller_has_to_mend_is_no_error_of_the_replica(error, is_logged, caplog):
    logger = logging.getLogger("tests.replica")
    logger.addFilter(OwnFailures())
    try:
        raise error
    except (MmragError, ZeroDivisionError):
        logger.exception("Request failed.")
    logger.error("something else")
    assert [record.message for record in caplog.records] == ["Request failed."] * is_logged + ["something else"]
