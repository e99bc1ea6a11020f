"""Conversations without a screen: dialogues, who answers, history and corrections."""
