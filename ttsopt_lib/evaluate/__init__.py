"""What optimization did to the quality: predicted MOS, intelligibility, spectrum, and listeners' ratings.

Every variant speaks the same sentences with the same noise; what is scored is what a WAV file of it would
hold. `evaluate_study` is the step. The page `docs/quality.md` says how to
read the figures.
"""
