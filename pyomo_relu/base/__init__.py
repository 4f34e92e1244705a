"""What every room may use: clocks, progress, lazy imports. It knows nothing of networks."""
