"""What several steps share: an ONNX graph read by its layers, and int8 in it."""
