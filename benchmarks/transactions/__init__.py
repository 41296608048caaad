"""What units of work cost, side by side with pyramid_tm, pyramid_retry and pyramid_zodbconn."""
