"""Runs haproxy with a configuration made safer; see the file without `.py` beside this one. Imports nothing heavy."""

import ctypes
import os
import re
import signal
import sys

PR_SET_PDEATHSIG = 1
ERROR = (
    b'{"error":{"type":"unavailable","message":"the service is starting or restarting; try again in a few seconds",'
    b'"param":null}}'
)
ERROR_PAGE = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"retry-after: 5\r\ncache-control: no-store\r\n\r\n%b" % (len(ERROR), ERROR)
)


def main() -> None:
    # Ray kills the actor that started haproxy; haproxy itself would live on, and keep the port.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    make_safe(sys.argv[sys.argv.index("-f") + 1])
    binary = os.environ["MMRAG_HAPROXY"]
    os.execv(binary, [binary, *sys.argv[1:]])


def make_safe(path: str) -> None:
    """Rewrite the configuration: statistics for this machine only, slow headers cut off, errors as JSON."""
    page = os.path.join(os.path.dirname(path), "503.http")
    with open(page, "wb") as file:
        file.write(ERROR_PAGE)
    with open(path) as file:
        text = file.read()
    for port in (os.environ["RAY_SERVE_HAPROXY_STATS_PORT"], os.environ["RAY_SERVE_HAPROXY_METRICS_PORT"]):
        text = re.sub(rf"^(\s*bind )\*?:{port}$", rf"\g<1>127.0.0.1:{port}", text, flags=re.MULTILINE)
    text = re.sub(r"^(\s*errorfile 50[234]) .*$", rf"\1 {page}", text, flags=re.MULTILINE)
    text = text.replace("defaults\n", "defaults\n    timeout http-request 30s\n", 1)
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
