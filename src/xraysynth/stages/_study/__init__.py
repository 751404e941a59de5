"""A study's own: its steps (`plan`), what they would take (`forecast`), how arms compare (`arms`)."""
