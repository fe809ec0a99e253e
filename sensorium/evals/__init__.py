"""MEASUREMENT: held-out samples, a task that scores replies, a report."""
