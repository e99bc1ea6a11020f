"""Exports an adapter or a model fused with it, and proves what was exported."""
