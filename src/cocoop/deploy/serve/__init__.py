"""`cocoop serve`: trained models and zero-shot CLIP side by side, as a page and an HTTP API."""
