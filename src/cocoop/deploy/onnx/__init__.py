"""A model and a list of class names as one ONNX file, with a runner that needs no torch."""
