"""A study's own: its steps and what they would take, what is finished, how arms compare, its limits."""
