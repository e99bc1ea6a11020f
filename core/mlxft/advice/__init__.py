"""Rules of thumb for fine-tuning: each with its evidence and, where one helps, a change."""
