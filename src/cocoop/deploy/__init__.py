"""A trained model somewhere else: as an ONNX file, or behind a page and an HTTP API."""
