"""What to do next: a state, what was seen and the time give the next state and its actions. Pure."""
