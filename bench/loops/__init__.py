"""The proof of the loop monitor: blocking faults of known length, clean runs, and what watching costs."""
