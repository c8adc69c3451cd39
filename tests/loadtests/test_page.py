"""The report in a real browser."""

import re
import shutil
import subprocess

import pytest

from loadtests.report import write_report
from tests.loadtests.recorded import record, scenario

pytestmark = pytest.mark.browser
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --enable-logging=stderr"


def test_the_report_opens_in_a_browser_whole_and_without_a_complaint(tmp_path):
    directory = record(tmp_path / "run", scenario("mix", peak=20, duration_s=20), lambda due_s, load: {})
    write_report(directory)
    chromium = shutil.which("chromium")
    assert chromium, "apt-get install chromium (cluster/install --tests does)"
    command = [chromium, *FLAGS.split(), f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom"]
    page = (directory / "report.html").as_uri()
    done = subprocess.run([*command, page], capture_output=True, text=True, timeout=120)
    assert done.stdout.count("<svg") == 8
    assert "all objectives met" in done.stdout
    assert "NaN" not in done.stdout
    assert not re.findall(r".*CONSOLE.*", done.stderr)
