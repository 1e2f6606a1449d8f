"""Say in one sentence why this Python cannot make the virtual environment, if it cannot.

Runs on any Python 3, so nothing newer may be used here.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "error: Python 3.11 or newer is needed, this is %d.%d.\n"
        "Name another one: make run PYTHON=python3.12" % sys.version_info[:2]
    )
try:
    import ensurepip
    import venv  # noqa: F401
except ImportError:
    sys.exit("error: this Python lacks venv or ensurepip.\nOn Debian or Ubuntu: apt-get install python3-venv")
if not ensurepip.version():
    sys.exit("error: this Python's ensurepip holds no pip.")
