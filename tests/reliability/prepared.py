"""Imported by the process that commands are forked from, before the first: see `tests.commands`."""

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when it is imported

from tests.reliability.jobs import prepare

prepare()
gc.freeze()  # otherwise the first collection of a forked process copies all of this one's memory
