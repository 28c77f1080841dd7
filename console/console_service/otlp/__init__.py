"""OTLP over HTTP, as the console receives it from every process: traces, logs and metrics, as protobuf or JSON.

`receiver` takes the requests, `body` bounds and unpacks them, `json_format` and `protobuf_format` turn them into the
`records` that the console keeps.
"""
