"""Raw tables → Events. Polars only; never torch, never labels."""
