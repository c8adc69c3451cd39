"""A server of embeddings that cost a little, with a child process: tiny_server.py PORT [other | empty]"""

import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["inputs"][0]
        compute()
        self._answer([] if "empty" in sys.argv else [[float(len(text)), 2.0, -3.0 if "other" in sys.argv else 3.0]])

    def _answer(self, content: object) -> None:
        encoded = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *arguments: object) -> None:
        pass


def compute(span_s: float = 0.005) -> None:
    """Enough for the kernel to see: it counts a process's time in ticks of 10 ms."""
    end_s = time.thread_time() + span_s
    while time.thread_time() < end_s:
        pass


if __name__ == "__main__":
    subprocess.Popen(["sleep", "600"])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
