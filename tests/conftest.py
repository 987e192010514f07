"""What every test needs."""

from __future__ import annotations

import signal

# A job that a script starts in the background ignores SIGINT, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
