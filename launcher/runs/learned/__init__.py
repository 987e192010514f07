"""What a run has learned: rewards and their intervals, answers, suspect pairs, and a summary in sentences. Pure."""
