"""How the bundled assets and the numbers of record were made. Not in the wheel."""
