"""The blinded reading kit: what radiologists see, and what their answers say."""
