"""How often figures on screen are written again."""

from __future__ import annotations

from typing import Final

AGES_SECONDS: Final = 10.0
"""How often ages are written again while they are on screen."""
