"""From samples to figures with 95 % intervals: latency, quality, ratings, and when enough was sampled."""
