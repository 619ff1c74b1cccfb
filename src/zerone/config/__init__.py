"""The options: sections.py lists them, tree.py joins them, reading.py fills them from files and arguments."""

from zerone.config.reading import build_config, parse_overrides, read_recipe, to_yaml
from zerone.config.sections import HabitsConfig, Section
from zerone.config.tree import Config, options

__all__ = [
    "Config",
    "HabitsConfig",
    "Section",
    "build_config",
    "options",
    "parse_overrides",
    "read_recipe",
    "to_yaml",
]
