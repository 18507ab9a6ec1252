"""A classifier over fixed names as one ONNX file, and a runner that needs no torch."""
