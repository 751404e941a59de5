"""What makes images: one file and one yaml each."""
