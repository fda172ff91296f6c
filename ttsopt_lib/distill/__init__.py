"""Train students: small networks that learn to do what the stages of a voice do, from what the voice itself says."""
