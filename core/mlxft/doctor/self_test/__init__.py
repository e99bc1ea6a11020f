"""The self-test: small measurements and runs on this machine, each judged, in a few minutes."""
