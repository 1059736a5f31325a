"""Images encoded once and prompted many times, with a cache on disk for frozen encoders."""
