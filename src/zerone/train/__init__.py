"""Training loops, losses and credit assignment."""
