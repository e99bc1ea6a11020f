"""Answers from a model: token by token, in parallel, with cached prompts."""
