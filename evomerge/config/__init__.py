"""The configuration of a search, as plain data: declared, read and checked in one place."""
