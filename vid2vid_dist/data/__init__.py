"""From raw folders to shards to clips to the frames that one task needs."""
