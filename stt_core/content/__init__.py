"""Content that many nodes hold: its name, how each part of it is verified, and from whom to fetch which part."""
