"""What leaves the house: weights, images and a study with their cards, for the Hugging Face Hub."""
