"""From OTLP records to what the console keeps."""
