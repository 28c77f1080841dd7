"""What a service tells its operators.

logs         loguru: JSON lines, or coloured lines in development
metrics      Prometheus, correct with several workers
key_metrics  which keys each worker holds; key rotation waits for them
tracing      OpenTelemetry spans, off without a receiver
telemetry    what a service sends to a collector and to the console, by a sender each
"""
