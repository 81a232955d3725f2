"""What tells a user how a job fares: `chaos` disturbs it, and compares how it ends."""
