"""The edge: OpenAI's HTTP contract around an engine. Decoding, fetching, limits and errors live here, no model does."""
