"""Runs `graph` of a module, as `serve run MODULE:graph` does, at a port of choice: ray_serve_run.py MODULE PORT"""

import importlib
import sys
import threading

import ray
from ray import serve

if __name__ == "__main__":
    module, port = sys.argv[1:]
    ray.init(address="local")
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(importlib.import_module(module).graph)
    threading.Event().wait()
