"""`headgate worker` with something planted: moments at which it kills itself when told so, and perhaps a bug.

A program of its own: `python -m ops.bench.faults.worker --moment-file FILE [--bug NAME]`; settings as ever.
"""

import argparse
from pathlib import Path

from ops.bench.faults import bugs, moments
from ops.terminal import load_settings
from ops.worker import run_worker


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--moment-file", type=Path, required=True, help="says at which moment to do what")
    parser.add_argument("--bug", choices=sorted(bugs.BUGS))
    options = parser.parse_args()
    settings = load_settings()
    if options.bug:
        bugs.plant(options.bug, settings.kafka, settings.topic_prefix)
    moments.plant(moments.Moments(options.moment_file))
    run_worker(settings)


if __name__ == "__main__":
    main()
