"""Everything mmrag raises on purpose.

    MmragError
    ├── InvalidRequest          the caller must change the request
    │   ├── InvalidImage            bytes that are no picture we accept
    │   ├── UnsupportedMedia        a type we do not read
    │   └── TooLarge                beyond a stated limit
    ├── Unauthorized            no valid API key
    ├── NotFound                no such document or image
    ├── Overloaded              the queue is full; come back after `retry_after_s`
    ├── DeadlineExceeded        the time given to the request is over
    ├── Unavailable             a component does not answer
    │   └── RankLost                a process of a model shared among several is gone; another replica may answer
    └── ConfigurationError      the service cannot start as configured

The HTTP status of each is chosen at the edge, in `deployments/http_errors.py`, and nowhere else.
"""


class MmragError(Exception):
    """Base of all errors of mmrag."""

    def __reduce__(self):
        # Errors cross process boundaries: keep the attributes whatever the constructor's signature.
        return (_rebuild, (type(self), self.args, self.__dict__))


class InvalidRequest(MmragError):
    """The request is wrong; `param` names the field at fault (dotted path) where there is one."""

    def __init__(self, message: str, param: str | None = None):
        super().__init__(message)
        self.param = param


class InvalidImage(InvalidRequest):
    """The bytes are not an image that mmrag can decode."""


class UnsupportedMedia(InvalidRequest):
    """The media type is not one mmrag reads."""


class TooLarge(InvalidRequest):
    """The input exceeds a stated limit (bytes, pixels, frames, characters, items)."""


class Unauthorized(MmragError):
    """The API key is missing or unknown."""


class NotFound(MmragError):
    """No document or image of that id exists for this tenant."""


class Overloaded(MmragError):
    """More work is queued than allowed. `retry_after_s`: when to try again, in seconds."""

    def __init__(self, message: str, retry_after_s: float = 1.0):
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(MmragError):
    """The request's time is over before an answer was ready."""


class Unavailable(MmragError):
    """A component that is needed for this request does not answer."""


class RankLost(Unavailable):
    """One of the processes that hold a model together is gone: all of them are started anew, and others may answer."""


class ConfigurationError(MmragError):
    """The configuration, or a model it names, cannot be used."""


def _rebuild(cls: type[MmragError], args: tuple, attributes: dict) -> MmragError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error
