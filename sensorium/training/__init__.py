"""One loop for the tokenizers and the network."""
