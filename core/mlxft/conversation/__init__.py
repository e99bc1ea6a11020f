"""What is sent to a model and what comes back, with sampling, stop strings and scores."""
