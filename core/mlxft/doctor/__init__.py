"""What this machine and its settings mean for a run: findings, each with its remedy."""
