"""What people see of a run; nothing in here computes, and nothing below imports it."""
