"""A classifier over fixed names as one ONNX file, checked against PyTorch, with a runner that needs no torch."""
