"""Training material made by program: unlimited, licence-clean, and the same bytes for the same seed."""
