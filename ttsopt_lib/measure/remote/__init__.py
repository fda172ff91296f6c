"""Measuring on a device that ssh reaches: what is sent there, and what runs there."""
