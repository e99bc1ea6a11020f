"""Chat without a screen: conversations, answerers, history on disk and corrected answers."""
