"""The dialog of the doctor and of its self-test."""
