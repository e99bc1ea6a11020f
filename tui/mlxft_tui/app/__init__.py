"""The application: a light shell that paints at once, and the project behind it."""

from mlxft_tui.app.application import MlxftApp

__all__ = ["MlxftApp"]
