"""What a run shows: the HTML report, and the terminal view of its rollouts."""
