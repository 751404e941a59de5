"""Where real images come from: one file and one yaml each."""
