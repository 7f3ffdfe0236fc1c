//! The cache: read path, write path, single flight, fences, freshness.
