"""What the report says about time on each device: latency, its parts, first runs and sounds, batches, energy."""
