"""One file per reproducible run."""
