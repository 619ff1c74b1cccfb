"""Sources of problems, demonstrations and preferences."""
