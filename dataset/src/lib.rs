//! Objects to Parquet shards, shards to samples.
