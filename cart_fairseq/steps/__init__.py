"""What the commands do: tuning, evaluating, and what they store."""
