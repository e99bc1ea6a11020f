"""Format numbers and paths, and make untrusted text safe to show."""
