"""`make demo`: a short tour through a running platform. Every step says what it claims, shows it and checks it."""
