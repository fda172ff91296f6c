"""Properties of a waveform: samples, spectrum, mel features, fundamental frequency."""
