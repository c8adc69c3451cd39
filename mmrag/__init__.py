"""mmrag: answers from a knowledge base of texts and images, with the evidence beside each answer."""

__version__ = "0.1.0"
