"""What all tests share: random networks, hypothesis strategies, and the checks."""
