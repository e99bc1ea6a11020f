"""The library under mlxft-tui: recipes, data, memory, runs, telemetry, engine and compute."""

__version__ = "0.1.0"
