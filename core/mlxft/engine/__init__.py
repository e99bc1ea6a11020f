"""The process a run lives in: server and worker thread, and the client that reaches them."""
