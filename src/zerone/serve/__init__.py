"""A trained model for other programs and for people: OpenAI-compatible server, chat page, terminal chat."""
