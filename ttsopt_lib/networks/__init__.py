"""The networks a voice is made of, as plain PyTorch modules."""
