"""Other projects' programs with our memories in them; each file imports its project when used."""
