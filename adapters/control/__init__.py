"""Control: Decision Transformers, with a cache or with a re-encoded window."""
