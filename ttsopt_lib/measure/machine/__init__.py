"""What the machine that measures tells of itself: its parts, temperature, load, limits, and energy."""
