"""Options, their defaults and ranges (`schema`), and how a file and overrides become one (`load`)."""
