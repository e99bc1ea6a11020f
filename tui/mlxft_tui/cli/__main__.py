"""``python -m mlxft_tui.cli``."""

import sys

from mlxft_tui.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
