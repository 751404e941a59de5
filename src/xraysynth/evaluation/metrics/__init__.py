"""What a study measures: classification, fidelity, diversity, and the intervals of each number."""
