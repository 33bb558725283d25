"""The operations, one family a file. Importing this package fills the registry."""
