"""Low-latency inference: messages in, events out."""
