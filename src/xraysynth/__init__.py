"""Can synthetic chest X-rays train a classifier, which generator should make them, and at what price?"""

__version__ = "0.1.0"
