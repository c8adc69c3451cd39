"""Runs haproxy with a configuration made safer; see the file without `.py` beside this one. Imports nothing heavy."""

import ctypes
import json
import os
import re
import signal
import sys

PR_SET_PDEATHSIG = 1
UNAVAILABLE = "the service is starting or restarting; try again in a few seconds"
PAGES = {
    400: ("400 Bad Request", "malformed_request", "the request is malformed, or did not arrive in time"),
    408: ("408 Request Timeout", "request_timeout", "the request did not arrive in time"),
    500: ("503 Service Unavailable", "unavailable", UNAVAILABLE),
    502: ("503 Service Unavailable", "unavailable", UNAVAILABLE),
    503: ("503 Service Unavailable", "unavailable", UNAVAILABLE),
    504: ("503 Service Unavailable", "unavailable", UNAVAILABLE),
}
"""What haproxy says by itself: status and body in the place of each of its own. (Where it has not even the whole head
of a request, it says 400 or 408 in HTML of its own, which cannot be changed.)"""


def main() -> None:
    # Ray kills the actor that started haproxy; haproxy itself would live on, and keep the port.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    make_safe(sys.argv[sys.argv.index("-f") + 1])
    binary = os.environ["MMRAG_HAPROXY"]
    os.execv(binary, [binary, *sys.argv[1:]])


def make_safe(path: str) -> None:
    """Rewrite the configuration: statistics for this machine only, slow headers cut off, errors as JSON.

    And with who is calling (x-forwarded-for): the proxy's own address says nothing, and what callers say of theirs
    would be believed.
    """
    with open(path) as file:
        text = file.read()
    for port in (os.environ["RAY_SERVE_HAPROXY_STATS_PORT"], os.environ["RAY_SERVE_HAPROXY_METRICS_PORT"]):
        text = re.sub(rf"^(\s*bind )\*?:{port}$", rf"\g<1>127.0.0.1:{port}", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*errorfile \d+ .*\n", "", text, flags=re.MULTILINE)
    # Where no application is known yet, Ray would say 404, in words.
    text = re.sub(r"http-request return status 404 .*", "http-request return status 503 default-errorfiles", text)
    pages = "".join(f"    errorfile {status} {page}\n" for status, page in write_pages(os.path.dirname(path)).items())
    text = text.replace("defaults\n", f"defaults\n    option forwardfor\n    timeout http-request 30s\n{pages}", 1)
    with open(path, "w") as file:
        file.write(text)


def write_pages(directory: str) -> dict[int, str]:
    """A file for each error, as haproxy sends it: head and body."""
    written = {}
    for status, (line, kind, message) in PAGES.items():
        body = json.dumps({"error": {"type": kind, "message": message, "param": None}})
        headers = ["content-type: application/json", f"content-length: {len(body)}", "cache-control: no-store"]
        headers += ["retry-after: 5"] if kind == "unavailable" else ["connection: close"]
        written[status] = os.path.join(directory, f"{status}.json.http")
        with open(written[status], "w", newline="") as file:
            file.write("\r\n".join([f"HTTP/1.1 {line}", *headers, "", body]))
    return written


if __name__ == "__main__":
    main()
