"""One file for each kind of model: what it is fed, how text becomes that, and what its audio is."""
