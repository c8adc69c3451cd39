"""`make loadtest SCENARIO=…`: a service, the load, the report; exits with 1 where an objective is missed.

Locust runs in a process of its own, so that gevent's patches of the standard library stay there.
"""

import argparse
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtests import components, figures, machine
from loadtests.recording import COMPONENTS, LOAD, RUN, read, write
from loadtests.report import print_verdicts, write_report
from loadtests.scenarios import Scenario, add_arguments, chosen
from loadtests.service import ROOT, NoService, service_at

RESULTS = Path(__file__).parent / "results"
SATURATING_CALLERS = 32
SATURATING_S = 15.0
STOP_TIMEOUT_S = 90
LOG = "locust.log"


class NoLoad(Exception):
    """Locust did not get to an end."""


def main(arguments: list[str] | None = None) -> int:
    """Run one scenario; returns 0, 1 where an objective is missed, or 2 where there was nothing to judge."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        scenario = chosen(options)
        directory = options.results / time.strftime(f"run-%Y%m%d-%H%M%S-{scenario.name}", time.gmtime())
        directory.mkdir(parents=True)
        with service_at(options.url, directory / "service.log") as is_own_service:
            load(scenario, directory, options, is_own_service)
    except (ValueError, NoService, NoLoad) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    judged = write_report(directory)
    print_verdicts(judged)
    print(f"report: {directory / 'report.html'}")
    return 0 if all(verdict.is_met for verdict in judged) else 1


def load(scenario: Scenario, directory: Path, options: argparse.Namespace, is_own_service: bool) -> None:
    """Drive the service at `options.url` and record it in `directory`, together with what can be seen of the service.

    Raises NoLoad.
    """
    look, watched = components.find(urlsplit(options.url).port or 80, options.dashboard)
    run = {"url": options.url, "is_own_service": is_own_service, "watched": watched, "machine": machine.describe()}
    if scenario.peak is None:
        scenario = replace(scenario, peak=scenario.saturations * saturation(scenario, directory, options, run))
        print(f"going up to {scenario.saturations:g} times that: {scenario.peak:,.1f} requests/s", flush=True)
    if look is None:
        drive(scenario, directory, options, run)
        return
    with components.Watch(look, directory / COMPONENTS):
        drive(scenario, directory, options, run)


def saturation(scenario: Scenario, directory: Path, options: argparse.Namespace, run: dict[str, Any]) -> float:
    """How many requests of this mix a second the service answers when callers never leave it idle."""
    probe = replace(scenario, loop="closed", shape="soak", peak=SATURATING_CALLERS, duration_s=SATURATING_S)
    (directory / "saturation").mkdir()
    print(f"what does the service manage? {SATURATING_CALLERS} callers for {SATURATING_S:.0f} s", flush=True)
    drive(probe, directory / "saturation", options, run)
    recorded = read(directory / "saturation")
    answered_per_s = figures.totals(recorded.calls, probe, figures.span_s(recorded, probe))["answered_per_s"]
    if not answered_per_s:
        raise NoLoad("the service answered nothing, so its saturation is unknown")
    print(f"it manages {answered_per_s:,.1f} answers/s", flush=True)
    return answered_per_s


def drive(scenario: Scenario, directory: Path, options: argparse.Namespace, run: dict[str, Any]) -> None:
    """Run Locust to the end, or until Ctrl-C. Raises NoLoad."""
    write(directory / RUN, run | {"scenario": asdict(scenario)})
    print(f"{scenario.name}: {scenario.shape} up to {scenario.peak:,.4g} {scenario.unit}", flush=True)
    with (directory / LOG).open("w") as log:
        process = subprocess.Popen(_locust(scenario, directory, options), cwd=ROOT, stderr=log)
        try:
            process.wait()
        except KeyboardInterrupt:  # Locust was told, too: the report shows what there is
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
    print(flush=True)
    if not (directory / LOAD).exists():
        last = "\n".join((directory / LOG).read_text(errors="replace").splitlines()[-10:])
        raise NoLoad(f"the load did not start:\n{last}")


def _locust(scenario: Scenario, directory: Path, options: argparse.Namespace) -> list[str]:
    arguments = {
        "-f": ROOT / "loadtests/locustfile.py",
        "--host": options.url,
        "--record": directory.resolve(),
        "--scenario": scenario.name,
        "--shape": scenario.shape,
        "--loop": scenario.loop,
        "--peak": scenario.peak,
        "--duration-s": scenario.duration_s,
        "--loglevel": "WARNING",
        "--stop-timeout": STOP_TIMEOUT_S,
        "--exit-code-on-error": 0,  # whether it went well is for the objectives to say
    }
    if options.seed is not None:
        arguments["--seed"] = options.seed
    pairs = [str(part) for pair in arguments.items() for part in pair]
    return [sys.executable, "-m", "locust", "--headless", "--only-summary", *pairs]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make loadtest", description="Load tests of the service, with a report.")
    add_arguments(parser)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the service; one is started if none runs")
    parser.add_argument("--dashboard", help="Ray's dashboard of the service, for replicas over time")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the report goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
