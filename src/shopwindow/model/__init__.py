"""Parts, towers and rerankers: encode, train, keep, rank."""
