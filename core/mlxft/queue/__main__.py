"""The supervisor's process: ``python -m mlxft.queue``."""

from __future__ import annotations

import os
import signal
import sys

from mlxft.errors import MlxftError
from mlxft.queue.start import refuse_sudo
from mlxft.queue.store import own_store
from mlxft.queue.supervisor import supervise


def main() -> int:
    """Work through the queue; the exit status is 1 after an error."""
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        refuse_sudo()
        supervise(own_store())
    except MlxftError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
