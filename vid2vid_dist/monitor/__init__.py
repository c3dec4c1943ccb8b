"""What people watch of a run: console, metrics, GPU telemetry, pictures, videos and pages."""
