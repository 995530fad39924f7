"""From records to numbers: rows, statistics, tables, figures and their words."""
