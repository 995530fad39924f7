"""Names for adapters, tasks and policies, and the reader of plain mappings."""
