"""The service's own process, started by `deployments.launch`: Ray, the application, and a word when it is ready."""

import logging
import os
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deployments import processes
from deployments.local_ray import start_ray
from deployments.names import check_names
from deployments.narration import say
from deployments.ports import address_of
from deployments.preload import ingest, is_loaded, load
from mmrag.config import AppConfig, RetrieverConfig
from mmrag.config_file import Options, read_config, read_options
from mmrag.model_files import check_models

log = logging.getLogger(__name__)

READY_POLL_S = 0.1
STILL_WAITING_PERIOD_S = 20.0
"""When somebody who waits wants to know what for."""

APPLICATION = "mmrag"
RAY_STARTED = "ray-started"
"""The file that is there while Ray is to be."""


def main() -> int:
    """Serve until stdin ends."""
    run_directory, host, port, metrics_port, config_path = sys.argv[1:]
    os.chdir(Path(config_path).parent)
    processes.let_others_finish_their_slice()
    try:
        config, options = read_config(Path(config_path)), read_options(Path(config_path))
        check_names(options, Path(config_path))
        check_models(config)
        preload(Path(config_path), config.retriever)
        start_ray_and_say(run_directory, int(metrics_port))
        start(host, int(port), config, options)
        Path(run_directory, "ready").touch()
        sys.stdin.read()  # until the launcher closes it, or is gone
        return 0
    except Exception as error:
        log.debug("start failed", exc_info=True)
        print(f"the service cannot start: {_essence(str(error))}", file=sys.stderr, flush=True)
        return 1
    finally:
        stop(run_directory)


def preload(config_path: Path, retriever: RetrieverConfig) -> None:
    """Put what the configuration names into the knowledge base: into the embedded one, the first time."""
    if not retriever.preload:
        return
    source, store = Path(retriever.preload), Path(retriever.path)
    is_there = is_loaded(source, store)
    if retriever.kind == "elasticsearch":
        say(f"seeing to it that {source} is in Elasticsearch")
        ingest(source, config_path)
    elif not is_there:
        say(f"{source} is not in the knowledge base yet: ingesting it (once)")
        load(source, store, config_path)


def start_ray_and_say(run_directory: str, metrics_port: int) -> None:
    """Bring Ray up."""
    say("starting Ray")
    start_ray(run_directory, metrics_port)
    Path(run_directory, RAY_STARTED).touch()
    say(f"metrics for Prometheus at http://127.0.0.1:{metrics_port}/metrics")


def start(host: str, port: int, config: AppConfig, options: Options) -> None:
    """Bring the service up; returns when it answers."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    say("starting Ray Serve" if "MMRAG_HAPROXY" in os.environ else "starting Ray Serve (no haproxy here: slower proxy)")
    # The proxies take seconds to start: the components start beside them.
    proxies = ThreadPoolExecutor(1).submit(serve.start, http_options={"host": host, "port": port})
    wait_for_controller(proxies)
    deploy(config, options)
    wait_until_ready(host, port, proxies)


def wait_for_controller(starting: Future) -> None:
    """Wait until Serve's controller exists; deploying before that would make another, with other options."""
    from ray.util import list_named_actors

    while not starting.done() and not any("CONTROLLER" in actor["name"] for actor in list_named_actors(True)):
        time.sleep(0.05)


def deploy(config: AppConfig, options: Options) -> None:
    """Hand the application to Ray Serve, without waiting for it."""
    from ray import serve

    from deployments.app import build_with

    application = build_with(config, options)
    say("starting the components")
    serve.run_many(
        [serve.RunTarget(target=application, name=APPLICATION)],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


def wait_until_ready(host: str, port: int, proxies: Future) -> None:
    """Wait until every component answers over HTTP; leaves with the reason where one cannot start."""
    ready: set[str] = set()
    told_s = time.monotonic()
    while not answers(host, port):
        check(proxies)
        states = component_states()
        now_ready = {name for name, state in states.items() if state == "HEALTHY"}
        if new := sorted(now_ready - ready):
            say(f"ready: {', '.join(new)}")
        ready |= now_ready
        if time.monotonic() - told_s > STILL_WAITING_PERIOD_S:
            told_s = time.monotonic()
            missing = sorted(set(states) - ready) or ["the proxy"]
            say(f"waiting for {', '.join(missing)}: {processes.machine_load()}")
        time.sleep(READY_POLL_S)
    _say_ready(host, port)


def check(proxies: Future) -> None:
    """Raise what kept the proxies from starting; that they are slow does not: Serve goes on starting them."""
    if proxies.done() and not isinstance(proxies.exception(), TimeoutError | None):
        proxies.result()


def component_states() -> dict[str, str]:
    """The status of each component; raises RuntimeError where one cannot start."""
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    application = serve.status().applications[APPLICATION]
    if application.status == ApplicationStatus.DEPLOY_FAILED:
        raise RuntimeError(_reason(application))
    return {name: state.status for name, state in application.deployments.items()}


def answers(host: str, port: int) -> bool:
    """Whether /readyz says yes."""
    try:
        with urllib.request.urlopen(f"{address_of(host, port)}/readyz", timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def stop(run_directory: str) -> None:
    """Let requests in flight end, then Ray, which is missed no more from now on."""
    Path(run_directory, RAY_STARTED).unlink(missing_ok=True)
    if "ray" not in sys.modules:
        return
    import ray
    from ray import serve

    if ray.is_initialized():
        # What Ray says while it goes down is of no use to anybody.
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, sys.stdout.fileno())
        os.dup2(silence, sys.stderr.fileno())
        serve.shutdown()
        ray.shutdown()


def _reason(application: Any) -> str:
    messages = [state.message for state in application.deployments.values() if state.message]
    return "\n".join([application.message, *messages])


def _essence(text: str) -> str:
    # Ray quotes whole stacks; our own errors say in one line what is wrong and how to mend it.
    lines = text.strip().splitlines()
    ours = [line for line in lines if line.startswith("mmrag.errors.")]
    return ours[-1].partition(": ")[2] if ours else "\n".join(lines[-12:])


def _say_ready(host: str, port: int) -> None:
    address = address_of(host, port)
    say(f"ready at {address} (a page to ask in; API at {address}/docs); Ctrl-C stops")
    print(
        f"\n  curl -s {address}/v1/answer -H 'content-type: application/json' \\\n"
        """    -d '{"text": "What is the capital of Peru?"}'\n""",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
