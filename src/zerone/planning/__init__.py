"""Planning: what a run takes of memory, time and money, from its configuration alone."""
