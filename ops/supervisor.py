"""Keep one server process alive exactly as long as the process that wants it. A script of its own.

The owner (ops/service.py) starts `python ops/supervisor.py OPTIONS -- COMMAND...` and keeps the write end of
the supervisor's standard input. As long as that pipe is open the server runs. When the owner writes to it,
closes it or dies, however it dies, the supervisor asks the server to stop, waits, and kills it if it must.

The supervisor is needed because Linux ties PR_SET_PDEATHSIG to the *thread* that started a child, and because
running code between fork and exec is unsafe in a process with threads. Here there is one thread at that time.
Standard library only: it runs with `-I -S` so that it starts in a few milliseconds.
"""

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1


def die_with_the_supervisor() -> None:
    """In the child before exec: the kernel kills it should the supervisor itself be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def stop_when_the_owner_asks_or_dies(child: "subprocess.Popen[bytes]", stop_signal: int, grace: float) -> None:
    os.read(0, 1)  # returns on a byte (asked) and on end of file (closed, or the owner is gone)
    child.send_signal(stop_signal)
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        child.kill()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--folder", required=True, help="the server's working folder")
    parser.add_argument("--stop-signal", type=int, default=signal.SIGTERM)
    parser.add_argument("--grace", type=float, default=10.0, help="seconds between the stop signal and SIGKILL")
    parser.add_argument("--user", help="run the server as this user (only root can)")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with open(options.log, "ab") as log:
        child = subprocess.Popen(
            options.command,
            cwd=options.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_the_supervisor,
            user=options.user,
            group=options.user,
            extra_groups=[] if options.user else None,
        )
    try:
        os.write(1, b"%d\n" % child.pid)
    except BrokenPipeError:  # the owner was interrupted and no longer listens; standard input says the same
        child.kill()
    arguments = (child, options.stop_signal, options.grace)
    threading.Thread(target=stop_when_the_owner_asks_or_dies, args=arguments, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
