"""Networks that judge speech: predicted MOS, and the speaker's identity."""
