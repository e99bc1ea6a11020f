"""The comparison of runs: curves, recipes, scores and samples side by side."""
