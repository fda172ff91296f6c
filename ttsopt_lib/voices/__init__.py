"""Where voices come from: Piper ONNX files, Hugging Face folders, and the text they speak."""
