"""Rules of thumb for fine-tuning, each with its reason and, where there is one, the change."""
