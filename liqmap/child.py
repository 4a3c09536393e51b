"""What every child of the supervisor does: take its lock, beat, die with its parent, stop when asked."""
