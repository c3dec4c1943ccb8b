"""Looks at the machines before a long run (`vid2vid_dist.cli.doctor`)."""
