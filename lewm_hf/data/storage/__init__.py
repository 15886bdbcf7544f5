"""Episodes on disk: Parquet files, lossless frames, and the card that describes them."""
