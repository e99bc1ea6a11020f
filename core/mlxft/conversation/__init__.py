"""Messages to and from a model, with sampling, stop strings and scores."""
