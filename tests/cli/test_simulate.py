"""`slipstream simulate` as a user runs it."""

import os
import re
import signal
import subprocess
import sys
import urllib.request

COMMAND = [sys.executable, "-c", "from slipstream.cli import main; main()", "simulate"]


def test_it_says_what_to_try_serves_and_ends_on_ctrl_c() -> None:
    """The banner names the address and the settings; Ctrl-C ends it with a sum and without a trace."""
    arguments = [*COMMAND, "--port", "0", "--model", "m", "--output-tokens", "3", "--script", "no_finish"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        banner = ""
        while "Ctrl-C" not in banner:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            banner += line
        found = re.search(r"http://127\.0\.0\.1:\d+", banner)
        assert found is not None
        body = b'{"model":"m","messages":[]}'
        with urllib.request.urlopen(f"{found[0]}/v1/chat/completions", data=body, timeout=10) as answer:
            assert b'"completion_tokens":3' in answer.read()
        os.kill(process.pid, signal.SIGINT)
        rest, errors = process.communicate(timeout=10)

    assert "curl" in banner
    assert "output_tokens 3" in banner
    assert "CAUTION" not in banner
    assert (process.returncode, errors) == (0, "")
    assert "Served 1" in rest


def test_a_wrong_script_is_told_and_nothing_starts() -> None:
    """A mistake in the arguments is one clear line."""
    done = subprocess.run(
        [*COMMAND, "--script", "cut@x"], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode != 0
    assert "cut@x" in done.stderr
    assert "Traceback" not in done.stderr
