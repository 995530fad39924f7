"""What a terminal shows: progress while a run goes on, and the table at its end."""
