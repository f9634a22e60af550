"""A run from its start to its report: who directs it, who takes part, what is watched, and how it ends."""
