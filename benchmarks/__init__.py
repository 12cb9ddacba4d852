"""Speed, memory and exactness of meteors_c against the peer, measured side by side: ``python -m benchmarks``."""
