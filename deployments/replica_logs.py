"""What a replica logs of requests that failed."""

import logging

from mmrag.errors import InvalidRequest, NotFound, Overloaded

_OF_CALLERS = (InvalidRequest, NotFound, Overloaded)


class OwnFailures(logging.Filter):
    """Passes what is to be mended here. A caller's mistake is answered, and counted by its status at the ingress; as an
    error with its traceback, as Ray Serve logs it, it would hide the others."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is not of a request that its caller has to mend."""
        return not (record.exc_info and isinstance(record.exc_info[1], _OF_CALLERS))


def log_own_failures_only() -> None:
    """In this process, from now on."""
    logging.getLogger("ray.serve").addFilter(OwnFailures())
