"""Control: Decision Transformers, token by token or with the window encoded anew."""
