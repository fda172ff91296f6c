"""Time voices on this machine: isolated workers, interleaved blocks, intervals, and doubts said aloud.

Needs numpy, scipy, onnxruntime, psutil and pydantic only, so that a small board can run it. PyTorch is imported
by nobody but the worker process that times a PyTorch row.
"""
