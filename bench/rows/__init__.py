"""The rows of the benchmark: each measures one question and returns tables."""
