"""What one looks at: console, metrics, GPU telemetry, pictures, videos and pages."""
