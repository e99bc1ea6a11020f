"""Generates answers: token by token, interleaved, with cached prompts."""
