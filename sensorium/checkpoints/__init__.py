"""The released weights, each in a folder with its card."""
