"""What tells a user how a job fares.

`chaos` disturbs a job, and compares how it ends; `doctor` looks for what would keep one from
running; `verify` compares a script in one process and on workers, step by step.
"""
