"""The stages of R1 as a graph."""
