"""Media to one stream of symbols, and back."""
