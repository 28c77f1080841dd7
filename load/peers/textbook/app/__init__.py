"""The textbook backend: two services as tutorials put them together. It is here to be measured, not to be copied."""
