"""The statistics of `tpc verify`: scores, slopes, and the law that a limit predicts. Arrays only."""
