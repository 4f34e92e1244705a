"""What every room may use: clocks and versions. It knows nothing of networks."""
