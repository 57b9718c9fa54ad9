"""The kinds of the product: definitions, defaults, validation, columns and accessors, one module a kind."""
