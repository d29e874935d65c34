"""What all command lines share: how they begin, speak and end."""
