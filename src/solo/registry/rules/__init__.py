"""The rules of the built-in kinds: defaults, validation and life cycle, as far as clients rely on them."""
