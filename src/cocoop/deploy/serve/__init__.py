"""Models behind a page and an HTTP API on this machine."""
