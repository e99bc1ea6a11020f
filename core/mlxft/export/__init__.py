"""What is exported, what was measured of it, and the pages that go with it."""
