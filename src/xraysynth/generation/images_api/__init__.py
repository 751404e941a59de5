"""An images API: calls under a budget and limits, what each answer means, and what it cost."""
