"""The rollouts browser: a local page over a run's rollouts.sqlite (`zerone view RUN`)."""
