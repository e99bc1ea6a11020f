"""The engine process: control socket and worker thread, and the client that connects to them."""
