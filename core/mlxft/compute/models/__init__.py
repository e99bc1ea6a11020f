"""Models and adapters: found, downloaded, loaded and exchanged."""
