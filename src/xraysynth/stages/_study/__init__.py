"""What a study consists of: planned steps and their estimates, finished jobs, compared arms, limits."""
