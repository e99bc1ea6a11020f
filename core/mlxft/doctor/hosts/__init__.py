"""Whether the machines of a recipe's `hosts` can train together."""
