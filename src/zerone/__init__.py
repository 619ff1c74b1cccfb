"""zerone: the DeepSeek-R1 training system, complete and open."""

import os

from zerone.processes.waiting import set_wait_policy

__version__ = "0.1.0"

set_wait_policy(os.environ)  # here, as torch reads it once, and nothing of zerone is imported before
